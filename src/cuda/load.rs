//! From a module to code that loads: the cache, NVRTC, and what to try next.

use super::cache::{Cache, Key};
use super::compile::{Arch, Compiled, Kind, Request};
use super::error::Error;
use super::module::Module;
use super::nvrtc::Nvrtc;

/// Code to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// What it is.
    pub kind: Kind,
    /// A cubin, or PTX that ends in a zero byte.
    pub bytes: &'a [u8],
}

/// The compiled form of a module, from the cache or by NVRTC.
///
/// # Errors
/// Where there is no NVRTC, or the text does not compile.
pub fn compile(module: &Module, arch: Arch, kind: Kind) -> Result<Compiled, Error> {
    let nvrtc = Nvrtc::find()?;
    let request = Request { module, arch, kind };
    Cache::shared().get_or(Key::of(&request, nvrtc.version()), || Ok(nvrtc.compile(&request)?))
}

/// What `load` makes of the first form of a module that it accepts: machine code, or else PTX. What came from the cache and
/// is not accepted is forgotten, and made anew once.
///
/// # Errors
/// Where nothing can be compiled, or the last form is not accepted either.
pub fn first_that_loads<T>(
    module: &Module,
    arch: Arch,
    mut load: impl FnMut(Image<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let nvrtc = Nvrtc::find()?;
    let mut forms = Vec::new();
    if nvrtc.known().contains(&arch.number) {
        forms.push((arch, Kind::Cubin));
    }
    // a processor that is newer than NVRTC runs what is made for an older one
    if let Some(number) = nvrtc.known().iter().copied().filter(|n| *n <= arch.number).max() {
        forms.push((Arch { number, suffix: None }, Kind::Ptx));
    }
    let mut last = None;
    for (arch, kind) in forms {
        let request = Request { module, arch, kind };
        let key = Key::of(&request, nvrtc.version());
        let cached = Cache::shared().get(key);
        let mut attempts = vec![cached.clone()];
        attempts.extend(cached.is_some().then_some(None));
        for attempt in attempts {
            let compiled = match attempt {
                Some(found) => found,
                None => {
                    let made = nvrtc.compile(&request)?;
                    Cache::shared().put(key, &made);
                    made
                }
            };
            match load(Image { kind, bytes: &compiled.image }) {
                Ok(loaded) => return Ok(loaded),
                Err(e) => {
                    Cache::shared().remove(key);
                    last = Some(e);
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        let version = nvrtc.version();
        Error::missing(
            format!("NVRTC {}.{} makes no code for {arch}", version.0, version.1),
            "`jetc doctor --install-nvrtc` fetches a newer one",
        )
    }))
}
