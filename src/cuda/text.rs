//! Pieces of CUDA text: indented lines, numbers, names.

use super::Precision;
use std::collections::BTreeSet;

/// Lines of text.
#[derive(Clone, Debug, Default)]
pub struct Text {
    /// What has been written.
    pub text: String,
    depth: usize,
}

impl Text {
    /// A line. One that ends in `{` indents those that follow, one that starts with `}` ends that.
    pub fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if line.starts_with('}') {
            self.depth = self.depth.saturating_sub(1);
        }
        if !line.is_empty() {
            (0..self.depth).for_each(|_| self.text.push_str("    "));
        }
        self.text.push_str(line);
        self.text.push('\n');
        if line.ends_with('{') {
            self.depth += 1;
        }
    }
}

impl Text {
    /// Lines at the end.
    pub fn append(&mut self, other: Text) {
        self.text.push_str(&other.text);
    }
}

/// The macro that leaves a kernel out: kernels are compiled in parts, all at a time.
pub fn without(kernel: &str) -> String {
    format!("WITHOUT_{kernel}")
}

/// Text that belongs to a kernel, and can be left out with it.
pub fn optional(kernel: &str, text: Text) -> Text {
    let mut out = Text::default();
    out.line(format!("#ifndef {}", without(kernel)));
    out.append(text);
    out.line("#endif");
    out
}

/// A literal.
pub fn number(value: f64, precision: Precision) -> String {
    let single = precision != Precision::Fp64;
    match if single { f64::from(value as f32) } else { value } {
        v if v.is_nan() => "not_a_number()".into(),
        v if v.is_infinite() && v > 0.0 => "infinity()".into(),
        v if v.is_infinite() => "-infinity()".into(),
        _ if single => format!("{:?}f", value as f32),
        v => format!("{v:?}"),
    }
}

/// What a tensor is called in kernels: a layer's name has a dot; others might be anything that kernels use.
pub fn tensor_name(name: &str) -> String {
    let prefix = if name.contains('.') { "" } else { "parameter_" };
    format!("{prefix}{name}")
}

/// A name of C++: letters, digits and underscores, and none twice.
pub fn identifier(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if clean.is_empty() || clean.starts_with(|c: char| c.is_ascii_digit()) {
        clean.insert(0, '_');
    }
    let mut unique = clean.clone();
    let mut k = 2;
    while !taken.insert(unique.clone()) {
        unique = format!("{clean}_{k}");
        k += 1;
    }
    unique
}
