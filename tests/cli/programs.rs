//! Programs that `check` and `plan` refuse, and those that they accept with a word.

use super::{PLANE, jetc};
use std::fs;
use tempfile::TempDir;

/// `check` and `plan` refuse the program: exit code 2, the first line names this line and holds these words.
#[track_caller]
pub fn refused(text: impl AsRef<[u8]>, line: usize, words: &[&str]) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jet"), text).unwrap();
    for arguments in [&["check", "a.jet"][..], &["plan", "a.jet", "-o", "plan.txt"]] {
        let run = jetc(folder.path(), arguments);
        let err = &run.err[..run.err.floor_char_boundary(1000)];
        assert_eq!(run.code, Some(2), "{arguments:?}: {err}");
        assert_eq!(run.out, "");
        let mut place = err.splitn(4, ':');
        assert_eq!(place.next(), Some("a.jet"), "{err}");
        assert_eq!(place.next(), Some(line.to_string().as_str()), "{err}");
        assert!(place.next().is_some_and(|column| column.parse::<usize>().is_ok()), "{err}");
        for word in words {
            assert!(err.contains(word), "no `{word}` in {err}");
        }
        assert!(!folder.path().join("plan.txt").exists());
    }
}

/// The same for what stands in the fifth line, after [`PLANE`].
#[track_caller]
fn refused_line(line: &str, words: &[&str]) {
    refused(format!("{PLANE}{line}\n"), 5, words);
}

/// Accepted, with these words in what is said.
#[track_caller]
fn accepted(text: &str, words: &[&str]) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jet"), text).unwrap();
    for command in ["check", "plan"] {
        let run = jetc(folder.path(), &[command, "a.jet"]);
        assert_eq!(run.code, Some(0), "{}", run.err);
        assert_eq!(run.err.is_empty(), words.is_empty(), "{}", run.err);
        words.iter().for_each(|word| assert!(run.err.contains(word), "no `{word}` in {}", run.err));
    }
}

pub fn ball(d: &str, field: &str, rest: &str) -> String {
    format!(
        "space x[{d}] in ball(radius = 1)\nnet N = mlp(width = 8, depth = 3, activation = tanh)\nfield u = {field}\n{rest}\n"
    )
}

#[test]
fn names() {
    refused_line("output r = lap(w)", &["there is no `w`"]);
    refused_line("output r = lapp(u)", &["`lapp`", "did you mean `lap`"]);
    refused_line("field u = N(y, x)", &["`u` is declared twice"]);
    refused_line("output r = d_xz(u)", &["`xz`"]);
    refused(format!("{PLANE}output r = u\noutput r = u\n"), 6, &["`r` is declared twice"]);
    refused(format!("{PLANE}let a = b\nlet b = a\noutput r = u + a\n"), 6, &["`a` depends on itself"]);
    refused(format!("{PLANE}operator L(w) = L(w) + w\noutput r = L(u)\n"), 5, &["`L` depends on itself"]);
}

#[test]
fn shapes() {
    refused_line("output r = sin(grad(u))", &["numbers", "vector[2]"]);
    refused_line("output r = grad(u) + u", &["a scalar", "a vector[2]"]);
    refused_line("output r = div(u)", &["vector[2]", "scalar"]);
    refused_line("output r = dot(u, grad(u))", &["two vectors", "scalar"]);
    refused_line("output r = trace(u)", &["square matrix", "scalar"]);
    refused_line("output r = hess(u)*[1, 2, 3]", &["2", "3"]);
    refused(ball("3", "N(x)", "output r = x[3]*u"), 4, &["out of the range 0..3"]);
    refused(ball("3", "N(x)", "output r = sum(i in 0..3: d(u, x[i + 1]))"), 4, &["out of the range 0..3", "1 to 3"]);
}

#[test]
fn operators_that_have_no_meaning() {
    let time =
        "time t in 0..1\nnet N = mlp(width = 8, depth = 2, activation = tanh)\nfield u = N(t)\noutput r = lap(u)\n";
    refused(time, 4, &["no space coordinate"]);
    refused(format!("space x\n{time}"), 5, &["no space coordinate"]);
    refused_line("output r = u + lap(3)", &["no space coordinate"]);
    // a source that is the same everywhere is no mistake
    accepted(&format!("{PLANE}operator L(w) = lap(w) + w\noutput r = L(u) - L(3)\n"), &[]);
    refused(PLANE.replace("tanh", "relu") + "output r = lap(u)\n", 5, &["relu", "order 2"]);
    accepted(&(PLANE.replace("tanh", "relu") + "output r = grad(u)\n"), &[]);
    refused_line("output r = lap(N(u, y))", &["a network of a network"]);
    refused_line("output r = d_n(u)", &["d_n"]);
}

#[test]
fn constants() {
    for overflow in ["10^400", "exp(1000)", "2*10^308*pi", "1e400", "u*1e300*1e300"] {
        refused_line(&format!("output r = u*{overflow}"), &["overflows"]);
    }
    refused_line("const k = 10^10^10", &["4096 bits"]);
    refused_line("const k = 1e999999999999", &["exponent"]);
    for zero in ["1/0", "1/(2 - 2)", "1/sin(0)", "1/(x - x)", "1/(pi - pi)", "sum(i in 0..4: 1/(i - 2))"] {
        refused_line(&format!("output r = u*{zero}"), &["division by zero"]);
    }
    accepted(&format!("{PLANE}output r = u*sum(i in 0..4: 1/(i + 1))\n"), &[]);
    refused_line("output r = u*0^(-1)", &["0 has no negative power"]);
    refused_line("output r = u*log(-1)", &["logarithm"]);
    refused_line(&format!("output r = u*{}", "9".repeat(100_000)), &["1000 digits"]);
    refused(ball("10^18", "N(x)", "output r = u"), 1, &["at most"]);
    refused(ball("99999999999999999999", "N(x)", "output r = u"), 1, &["too large"]);
    refused(ball("0", "N(x)", "output r = u"), 1, &["at least 1"]);
    refused(ball("1.5", "N(x)", "output r = u"), 1, &["whole number"]);
    for net in ["width = 0, depth = 2", "width = 8, depth = 0", "width = 8, depth = 1000000", "width = -1, depth = 2"] {
        refused(PLANE.replace("width = 8, depth = 3", net) + "output r = u\n", 2, &["a network must be"]);
    }
}

#[test]
fn residuals_that_nothing_can_change() {
    let condition = |residual: &str| {
        format!("{PLANE}solve interior: {residual} = 1\nsample interior = 8\ntrain adam(lr = 1e-3), steps = 2\n")
    };
    for residual in ["x", "u - u", "d_x(N(0.5, y))"] {
        refused(condition(residual), 5, &["depends on no network"]);
    }
    accepted(&condition("d_x(u)"), &[]);
    accepted(
        &(format!("{PLANE}param k = 2 learn\nsolve interior: k*x = u")
            + "\nsample interior = 8\ntrain adam(lr = 1e-3), steps = 2\n"),
        &[],
    );
}

#[test]
fn orders() {
    refused_line(&format!("output r = d_{}(u)", "x".repeat(24)), &["order 24", "25 rows"]);
    refused_line(&format!("output r = {}u{}", "lap(".repeat(9), ")".repeat(9)), &["order 18", "100 rows"]);
    refused_line(&format!("output r = {}u{}", "lap(".repeat(200), ")".repeat(200)), &["order 400", "401 rows"]);
    refused_line(&format!("output r = d_{}(u)", "x".repeat(20_000)), &["order 20000", "20001 rows"]);
}

#[test]
fn nesting() {
    const DEEP: usize = 20_000;
    for (open, close) in [("(", ")"), ("-", ""), ("u^", ""), ("lap(", ")"), ("[", "]"), ("sum(i in 0..2: ", ")")] {
        for n in [300, DEEP] {
            refused_line(&format!("output r = {}u{}", open.repeat(n), close.repeat(n)), &["deeper than 256"]);
            refused_line(&format!("output r = {}", open.repeat(n)), &[""]);
        }
    }
    refused_line(&format!("output r = {}", ")".repeat(DEEP)), &["no open bracket"]);
    let chain = |n: usize, step: &dyn Fn(usize) -> String| {
        let lets: String = (0..n).map(|k| format!("let a{} = {}\n", k + 1, step(k))).collect();
        format!("{PLANE}let a0 = u\n{lets}output r = a{n}\n")
    };
    refused(chain(DEEP, &|k| format!("a{k} + 1")), 1004, &["deeper than 1000"]);
    refused(chain(DEEP, &|k| format!("sin(a{k})")), 1004, &["deeper than 1000"]);
    refused(chain(900, &|k| format!("lap(a{k})")), 905, &["order 1800"]);
    accepted(&chain(900, &|k| format!("sin(a{k})")), &[]);
    accepted(&chain(900, &|k| format!("a{k}*a{k}")), &[]);
    accepted(&chain(30, &|k| format!("a{k}*a{k} + a{k}")), &[]);
    accepted(&chain(30, &|k| format!("x*sin(a{k}) + y*a{k}")), &[]);
    for power in ["u^(10^9)", "x^(10^9)*d_xx(u)", "(x + y)^1000*d_xx(u)", "lap((x*u + 1)^1000)"] {
        accepted(&format!("{PLANE}output r = {power} + d_yy(u)\n"), &[]);
    }
    refused(
        PLANE.to_string()
            + &(0..40).map(|k| format!("operator a{}(w) = a{k}(a{k}(sin(w)))\n", k + 1)).collect::<String>()
            + "operator a0(w) = w\noutput r = a40(u)\n",
        5,
        &["deeper than 1000"],
    );
    // long is not deep
    accepted(&format!("{PLANE}output r = u{}\n", " + x*u".repeat(DEEP)), &[]);
    accepted(&format!("{PLANE}output r = u{}\n", "*x".repeat(DEEP)), &[]);
}

#[test]
fn texts_that_are_none() {
    refused("", 1, &["no statement"]);
    refused("\n\n\n", 1, &["no statement"]);
    refused("# a comment\n# and another\n", 1, &["no statement"]);
    refused(PLANE, 3, &["asks for nothing", "output"]);
    let with = |tail: &[u8]| [PLANE.as_bytes(), b"output r = u", tail, b"\n"].concat();
    refused(with(b" \xff\xfe"), 5, &["not UTF-8", "0xff"]);
    refused(with(b"\0"), 5, &["not part of the language"]);
    refused([0; 1000], 1, &["not part of the language"]);
    refused(b"\xff\xfes\0p\0a\0", 1, &["not UTF-8"]);
    refused(format!("{PLANE}output r = w\n").replace('\n', "\r\n"), 5, &["there is no `w`"]);
    accepted(&format!("\u{feff}{PLANE}output r = u\n"), &[]);
}

#[test]
fn warnings() {
    accepted(&(PLANE.replace("N(x, y)", "N(x)") + "output r = u\n"), &["warning", "`y` is never used", "a.jet:1:10"]);
    let biased = "solve interior: sin(lap(u)) = 1\nestimate lap(u) by sparse(4)\nsample interior = 8\ntrain adam(lr = 1e-3), steps = 2";
    accepted(&ball("100", "N(x)", biased), &["warning", "biased", "a.jet:4:17"]);
}

#[test]
fn exact_in_many_dimensions() {
    for field in ["N(x)", "(1 - norm2(x))*N(x)"] {
        let weighted = "sum(i in 0..1000000: i*d(u, x[i], x[i]))";
        let cubic = "sum(i in 0..1000000: d(u, x[i], x[i], x[i]))";
        for (output, count) in [(weighted, "00000"), (cubic, "00000")] {
            refused(ball("1000000", field, &format!("output r = {output}")), 4, &[count, "rows", "sparse"]);
        }
    }
    // through the first layer, these are few rows
    accepted(&ball("1000000", "(1 - norm2(x))*N(x)", "output r = lap(u) + norm2(hess(u))"), &[]);
    refused(ball("1000000", "N(x)", "output r = grad(u)"), 4, &["1000000"]);
    refused(ball("9", "N(x)", "output r = det(hess(u))"), 4, &["9 x 9", "8 x 8"]);
}
