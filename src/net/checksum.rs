//! The checksum of a safetensors file: SHA-256 of the file with the 64 digits of the checksum themselves as zeros. It stands in
//! the string metadata, so that one pass over the bytes checks tensors, header and metadata, in any language.

use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;

/// The key of the checksum in a file's metadata.
pub const KEY: &str = "jetc.checksum";
/// What stands in its place while it is computed.
pub const NONE: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Where the digits are in a header. Quotes inside of strings are escaped, so that nothing else looks like it.
pub fn find(header: &[u8]) -> Option<Range<usize>> {
    let before = format!("\"{KEY}\":\"");
    let start = header.windows(before.len()).position(|w| w == before.as_bytes())? + before.len();
    let digits = start..start + NONE.len();
    header.get(digits.clone())?.iter().all(u8::is_ascii_hexdigit).then_some(digits)
}

/// A writer that keeps the hash of what passes.
pub struct Hashed<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Hashed<W> {
    /// Nothing has passed.
    pub fn new(inner: W) -> Self {
        Hashed { inner, hash: Sha256::new() }
    }
    /// The hash so far, as 64 digits.
    pub fn digits(&self) -> String {
        let mut digits = String::with_capacity(NONE.len());
        for byte in self.hash.clone().finalize() {
            let _ = write!(digits, "{byte:02x}");
        }
        digits
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
