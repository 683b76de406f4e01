//! The smallest algebra is reached from program text: rows of `tests/theory/minimal_rows.json`, whose values are those of
//! an independent implementation.

use jetc::plan::{Options, PointSet, plan};
use jetc::program::Overrides;
use jetc::solver::compile;

fn planned(text: &str) -> PointSet {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    let mut plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    plan.sets.swap_remove(0)
}

/// A program whose output is the operator: `d = 5` in its name is the dimension of the vector x; letters are coordinates.
fn program(operator: &str) -> String {
    let (text, dimension) = match operator.split_once(", d = ") {
        Some((text, d)) => (text, Some(d)),
        None => (operator, None),
    };
    let text = match text.split_once(": ") {
        Some((name, rest)) if !name.contains('(') => rest,
        _ => text,
    };
    let used = |letter: char| {
        let mut names = text.split("d_").skip(1).map(|s| s.split('(').next().unwrap_or_default().to_string());
        names.any(|n| n.contains(letter))
    };
    let time = if used('t') { "time t\n" } else { "" };
    let t = if used('t') { ", t" } else { "" };
    if operator.starts_with("Navier-Stokes") {
        return "space x, y\ntime t\nnet N = mlp(width = 4, depth = 2, activation = tanh, outputs = 3)\n\
                field v = N(x, y, t)[0..2]\nfield p = N(x, y, t)[2]\n\
                output r = d_t(v) + advect(v, v) + grad(p) - 0.1*lap(v)\n"
            .into();
    }
    if operator.starts_with("Cahn-Hilliard") {
        return "space x, y\ntime t\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = N(x, y, t)\n\
                output a = u\noutput b = norm2(grad(u))\noutput c = lap(u)\noutput e = d_t(u) + 0.02*lap(lap(u))\n"
            .into();
    }
    let (space, x) = match dimension {
        Some(d) => (format!("x[{d}]"), "x".to_string()),
        None => {
            let letters: Vec<String> = ['x', 'y', 'z']
                .into_iter()
                .filter(|l| used(*l) || (*l != 'z' && text.contains("lap(")))
                .map(String::from)
                .collect();
            (letters.join(", "), letters.join(", "))
        }
    };
    format!(
        "space {space}\n{time}net N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = N({x}{t})\noutput r = {text}\n"
    )
}

#[test]
fn every_row_of_the_table_is_reached_from_text() {
    let table: serde_json::Value =
        serde_json::from_str(include_str!("theory/minimal_rows.json")).expect("the table is JSON");
    let table = table.as_array().expect("a list");
    assert_eq!(table.len(), 32);
    for row in table {
        let operator = row["operator"].as_str().expect("a name");
        let set = planned(&program(operator));
        let [network] = &set.networks[..] else { panic!("{operator}: {} networks", set.networks.len()) };
        assert_eq!(network.rows as u64, row["rows"].as_u64().expect("a number"), "{operator}\n{:#?}", set.folded);
        assert_eq!(network.rows, network.lower_bound, "{operator}");
        assert!(network.products as u64 <= row["products"].as_u64().expect("a number"), "{operator}");
        // what the plan says is what runs
        let lifted = set.program.ops.iter().find_map(|op| match op {
            jetc::jet::Op::Lift { rows, .. } => Some(*rows),
            _ => None,
        });
        assert_eq!(lifted, Some(network.rows), "{operator}");
    }
}

#[test]
fn a_square_of_a_laplacian_needs_the_laplacian_alone_in_any_form() {
    let head = "space x, y\nnet N = mlp(width = 4, depth = 2, activation = tanh)\nfield u = N(x, y)\n";
    for form in [
        "(d_xx(u) + d_yy(u))^2",
        "d_xx(u)^2 + 2*d_xx(u)*d_yy(u) + d_yy(u)^2",
        "lap(u)^2 + sin(lap(u))",
        "exp(d_yy(u) + d_xx(u)) - 3*lap(u)",
    ] {
        let set = planned(&format!("{head}output r = {form}\n"));
        assert_eq!(set.networks[0].rows, 4, "{form}\n{:#?}", set.folded);
    }
    // and what is not a function of the Laplacian alone needs more
    let set = planned(&format!("{head}output r = d_xx(u)^2 + d_xx(u)*d_yy(u) + d_yy(u)^2\n"));
    assert_eq!(set.networks[0].rows, 5);
}

#[test]
fn other_methods_have_their_published_rows() {
    let set = planned(&program("lap(lap(u)), d = 5"));
    let c = set.networks[0].compared;
    assert_eq!((c.taylor, c.collapsed_taylor, c.nested_forward_laplacian, c.full_jet), (141, 109, 49, 126));
}
