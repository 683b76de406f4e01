//! Operators of the language: identities between forms that must give the same numbers, through the whole compiler.

use jetc::net::Parameters;
use jetc::plan::{Options, plan};
use jetc::program::Overrides;
use jetc::solver::{Evaluator, compile, verify};

/// The outputs of a program at a few points, one row per point.
fn evaluate(text: &str) -> Vec<Vec<f64>> {
    let (program, diagnostics) = compile(text, &Overrides::default());
    let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
    let plan = plan(&program, Options::default()).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
    let parameters = Parameters::<f64>::initial(&program, 3);
    let evaluator = Evaluator::<f64>::new(&plan.sets[0].program).expect("it was planned");
    let count = 5;
    let points: Vec<f64> = (0..count * program.columns()).map(|k| ((k * 37 + 11) % 23) as f64 / 23.0 - 0.4).collect();
    let values = evaluator.run(&parameters, count, &points, &[], 0, 0).expect("shapes fit");
    values.chunks(evaluator.width()).map(<[f64]>::to_vec).collect()
}

/// `a` and `b` are expressions of the same shape over these statements.
#[track_caller]
fn same(head: &str, a: &str, b: &str) {
    for row in evaluate(&format!("{head}output a = {a}\noutput b = {b}\n")) {
        let (left, right) = row.split_at(row.len() / 2);
        for (x, y) in left.iter().zip(right) {
            assert!((x - y).abs() <= 1e-11 * (1.0 + x.abs()), "{a} = {x}, {b} = {y}");
        }
    }
}

const PLANE: &str = "space x, y\ntime t\nnet N = mlp(width = 8, depth = 3, activation = tanh)\nfield u = N(x, y, t)\n";
const FLOW: &str =
    "space x, y, z\nnet N = mlp(width = 8, depth = 3, activation = sin, outputs = 3)\nfield v = N(x, y, z)\n";
const VECTOR: &str = "space x[4]\nnet N = mlp(width = 8, depth = 3, activation = tanh)\nfield u = N(x)\n";

#[test]
fn letters_in_any_order() {
    same(PLANE, "d_yxt(u)", "d_t(d_x(d_y(u)))");
    same(PLANE, "d(u, x, y, y)", "d_yyx(u)");
}

#[test]
fn vector_calculus() {
    same(PLANE, "lap(u)", "d_xx(u) + d_yy(u)");
    same(PLANE, "div(grad(u))", "lap(u)");
    same(PLANE, "trace(hess(u))", "lap(u)");
    same(PLANE, "det(hess(u))", "d_xx(u)*d_yy(u) - d_xy(u)^2");
    same(PLANE, "norm2(grad(u))", "d_x(u)^2 + d_y(u)^2");
    same(PLANE, "dot([y, -x], grad(u))", "advect([y, -x], u)");
    same(FLOW, "curl(curl(v))", "grad(div(v)) - lap(v)");
    same(FLOW, "div(curl(v))", "0*v[0]");
    same(FLOW, "grad(norm2(v)/2)", "[dot(v, d_x(v)), dot(v, d_y(v)), dot(v, d_z(v))]");
    same(FLOW, "advect(v, v)", "grad(v)*v");
    same(FLOW, "concat(v[0..2], lap(v)[0], [x, y])", "[v[0], v[1], lap(v[0]), x, y]");
}

#[test]
fn sums_over_indices() {
    same(VECTOR, "lap(u)", "sum(i in 0..4: d(u, x[i], x[i]))");
    same(VECTOR, "hess(u)*grad(u)", "grad(norm2(grad(u)))/2");
    same(
        VECTOR,
        "sum(i in 0..4: sum(j in 0..4: 0.3^abs(i - j)*d(u, x[i], x[j])))",
        "trace([[1, 0.3, 0.09, 0.027], [0.3, 1, 0.3, 0.09], [0.09, 0.3, 1, 0.3], [0.027, 0.09, 0.3, 1]]*hess(u))",
    );
    same(
        VECTOR,
        "lap(sum(i in 0..3: sin(x[i]*x[i+1]))*u)",
        "lap((sin(x[0]*x[1]) + sin(x[1]*x[2]) + sin(x[2]*x[3]))*u)",
    );
    same(VECTOR, "max(i in 0..4: x[i])", "max(max(x[0], x[1]), max(x[2], x[3]))");
    // an index around another one of the same range
    let (over, apart) = ("max(i in 0..4: u*x[i])", "max(max(u*x[0], u*x[1]), max(u*x[2], u*x[3]))");
    same(VECTOR, &format!("norm2(grad({over}))"), &format!("norm2(grad({apart}))"));
    same(VECTOR, &format!("sum(j in 0..4: d({over}, x[j])*x[j])"), &format!("dot(x, grad({apart}))"));
    same(VECTOR, "norm2(grad(sum(i in 0..3: x[i]*x[i+1]^2)))", "norm2(grad(x[0]*x[1]^2 + x[1]*x[2]^2 + x[2]*x[3]^2))");
}

#[test]
fn products_and_composites() {
    same(PLANE, "d_x(u*d_x(u))", "d_x(u)^2 + u*d_xx(u)");
    same(PLANE, "lap(exp(u))", "exp(u)*(lap(u) + norm2(grad(u)))");
    same(
        PLANE,
        "div(grad(u)/sqrt(1 + norm2(grad(u))))",
        "lap(u)/sqrt(1 + norm2(grad(u))) - dot(grad(u), hess(u)*grad(u))/(1 + norm2(grad(u)))^1.5",
    );
    // a network of expressions, and two networks
    let two = "space x, y\nnet N = mlp(width = 6, depth = 2, activation = tanh)\n\
               net M = mlp(width = 5, depth = 3, activation = swish)\nfield u = N(2*x, x*y)*M(y)\n";
    same(two, "d_x(u)", "d_x(N(2*x, x*y))*M(y)");
    same(two, "lap(u)", "lap(N(2*x, x*y))*M(y) + 2*dot(grad(N(2*x, x*y)), grad(M(y))) + N(2*x, x*y)*lap(M(y))");
}

/// What is named once and used twice is one thing to the compiler: as trees, these would have 2^30 leaves.
#[test]
fn what_is_shared_is_planned_once() {
    let chain = |first: &str, step: &str| {
        let steps = (0..30).map(|k| format!("let a{} = {}\n", k + 1, step.replace('A', &format!("a{k}"))));
        format!("{VECTOR}let a0 = {first}\n{}", steps.collect::<String>())
    };
    let total = "(1 + sum(i in 0..4: x[i]))^30";
    same(&chain("u", "A + A*x[0]"), "lap(a30)", "lap(u*(1 + x[0])^30)");
    same(&chain("u", "A + A*x[0]"), "lap(u) + a30^2", "lap(u) + (u*(1 + x[0])^30)^2");
    same(&chain("norm2(x)", "A + A*x[1]"), "lap(a30*u)", "lap(norm2(x)*(1 + x[1])^30*u)");
    same(&chain("norm2(x)", "A + A*sum(i in 0..4: x[i])"), "lap(a30*u)", &format!("lap(norm2(x)*{total}*u)"));
    same(&chain("x[2]", "max(A, -A)"), "d(a30*u, x[1])", "d(abs(x[2])*u, x[1])");
}

#[test]
fn a_periodic_coordinate_is_periodic() {
    let text = "space x, y in box(0..1, 0..3) periodic(y)\nnet N = mlp(width = 8, depth = 3, activation = tanh)\n\
                field u = N(x, y)\noutput a = lap(u)\noutput b = d_xx(u) + d_yy(u)\n";
    let (program, _) = compile(text, &Overrides::default());
    let program = program.expect("it is right");
    let plan = plan(&program, Options::default()).expect("it is planned");
    let parameters = Parameters::<f64>::initial(&program, 1);
    let evaluator = Evaluator::<f64>::new(&plan.sets[0].program).expect("it was planned");
    let points = [0.3, 0.2, 0.3, 3.2];
    let values = evaluator.run(&parameters, 2, &points, &[], 0, 0).expect("shapes fit");
    for k in 0..2 {
        assert!((values[k] - values[2 + k]).abs() < 1e-9, "{values:?}");
    }
    assert!((values[0] - values[1]).abs() < 1e-9);
}

/// Every point set of these programs against the full jet, and its gradient against differences.
#[test]
fn verified() {
    for text in [
        // a learnable parameter that lives in the structure table alone
        "space x in box(-1..1)\ntime t in 0..1\nparam nu = 0.1 learn log\n\
         net N = mlp(width = 7, depth = 3, activation = tanh)\nfield u = N(x, t)\n\
         solve interior: d_t(u) + u*d_x(u) = nu*d_xx(u)\ntrain adam(lr = 1e-3), steps = 1\n",
        // coefficients that vary by point, a factor that vanishes on the boundary
        "space x[3] in ball(radius = 1)\nnet N = mlp(width = 6, depth = 3, activation = gelu)\n\
         field u = (1 - norm2(x))*N(x)\nsolve interior: div((1 + norm2(x))*grad(u)) + u - u^3 = sin(x[0])\n\
         train adam(lr = 1e-3), steps = 1\n",
        // (a d_x + b d_y)^2 with learnable a, b: rows that are directions with learnable seeds
        "space x, y in box(0..1, 0..1)\nparam a = 0.5 learn\nparam b = 2 learn\n\
         net N = mlp(width = 6, depth = 3, activation = softplus)\nfield u = N(x, y)\n\
         solve interior: a*d_x(a*d_x(u) + b*d_y(u)) + b*d_y(a*d_x(u) + b*d_y(u)) = u\ntrain adam(lr = 1e-3), steps = 1\n",
        // sampled sums: the same draws in both programs
        "space x[12] from normal()\ntime t in 0..1\nnet N = mlp(width = 6, depth = 3, activation = tanh)\n\
         field u = (1 - t)*norm2(x)*N(x, t)\n\
         solve interior: d_t(u) + sum(i in 0..12: x[i]^2*d(u, x[i], x[i])) - dot(x, grad(u)) = 0\n\
         estimate interior by sparse(4)\ntrain adam(lr = 1e-3), steps = 1\n",
        "space x[9] in ball(radius = 1)\nnet N = mlp(width = 6, depth = 3, activation = tanh)\n\
         field u = (1 - norm2(x))*N(x)\nsolve interior: lap(u) = 1\nestimate lap(u) by rademacher(3)\n\
         train adam(lr = 1e-3), steps = 1\n",
        // compressed: the layer is narrower than space; many columns, which are streamed
        "space x[60] in ball(radius = 1)\nnet N = mlp(width = 6, depth = 3, activation = tanh)\n\
         field u = (1 - norm2(x))*N(x)\nsolve interior: lap(u) + norm2(grad(u)) = sum(i in 0..59: x[i]*x[i+1])\n\
         estimate interior by compressed\n\
         train adam(lr = 1e-3), steps = 1\n",
        "space x[60] in ball(radius = 1)\nnet N = mlp(width = 6, depth = 3, activation = tanh)\n\
         field u = (1 - norm2(x))*N(x)\nsolve interior: lap(u) = 1\nestimate lap(u) by compressed(2) unbiased\n\
         train adam(lr = 1e-3), steps = 1\n",
        // terms by the size of their coefficients, and directions with components
        "space x[60] from normal()\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x)\n\
         solve interior: sum(i in 0..60: x[i]^2*d(u, x[i], x[i])) = u\nestimate interior by importance(3)\n\
         solve second: sum(i in 0..60: x[i]^2*d(u, x[i], x[i])) = u\nestimate second by rademacher(2)\n\
         train adam(lr = 1e-3), steps = 1\n",
        // directions that are known by their images, beside coefficients that vary by point
        "space x[20] from normal()\ntime t in 0..1\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x, t)\n\
         solve interior: t*d_t(u) + lap(u) - dot(x, grad(u)) = u\nestimate lap(u) by compressed(2)\n\
         solve second: t*d_t(u) + lap(u) - dot(x, grad(u)) = u\nestimate second by compressed\n\
         train adam(lr = 1e-3), steps = 1\n",
        // many columns with such coefficients
        "space x[80] from normal()\ntime t in 0..1\nnet N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = N(x, t)\n\
         solve interior: t*d_t(u) - dot(x, grad(u)) + sum(i in 0..80: x[i]^2*d(u, x[i], x[i])) = u\n\
         estimate interior by sparse(4)\ntrain adam(lr = 1e-3), steps = 1\n",
        // blocks of coordinates that share weights
        "space x[121] in ball(radius = 1)\nnet N = mlp(width = 6, depth = 3, activation = tanh, share = block(2))\n\
         field u = (1 - norm2(x))*N(x)\nsolve interior: lap(u) = 1\nestimate lap(u) by sparse(3)\n\
         train adam(lr = 1e-3), steps = 1\n",
        // a gradient-enhanced residual with a manufactured source
        "space x[5] in ball(radius = 1)\ncoef c[4] ~ normal(seed = 0)\n\
         net N = mlp(width = 6, depth = 3, activation = tanh)\nfield u = (1 - norm2(x))*N(x)\n\
         let exact = (1 - norm2(x))*sum(i in 0..4: c[i]*sin(x[i] + cos(x[i+1])))\noperator L(w) = lap(w) + sin(w)\n\
         solve interior: L(u) = L(exact)   enhance gradient(weight = 0.1, dirs = 2)\n\
         estimate lap(u) by sparse(3)\ntrain adam(lr = 1e-3), steps = 1\n",
        // a normal derivative on all faces, and a periodic direction
        "space x, y in box(0..1, 0..2) periodic(y)\nnet N = mlp(width = 6, depth = 3, activation = sin)\n\
         field u = N(x, y)\nsolve interior: lap(u) + u = 1\nsolve edge on boundary: d_n(u) + u = 0\n\
         solve left on x = 0: d_n(u) = 0\ntrain adam(lr = 1e-3), steps = 1\n",
    ] {
        let (program, diagnostics) = compile(text, &Overrides::default());
        let program = program.unwrap_or_else(|| panic!("{text}\n{diagnostics:?}"));
        let parameters = Parameters::<f64>::initial(&program, 5);
        let results = verify(&program, &parameters, 7).unwrap_or_else(|e| panic!("{text}\n{e:?}"));
        let results = results.unwrap_or_else(|e| panic!("{text}\n{e}"));
        assert!(results.len() > 1);
        for r in results {
            assert!(r.passed(), "{text}\n{r:?}");
        }
    }
}

/// What STDE ran can be planned, in a million dimensions too where the file has them.
#[test]
fn the_problems_of_stde_are_planned() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/stde");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the examples are there") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|e| e != "jet") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        let many = text.contains("\nconst d = ") && !path.ends_with("biharmonic_dense.jet");
        for set in [vec![], vec![("d".to_string(), "1000000".to_string())]].into_iter().take(1 + many as usize) {
            let (program, diagnostics) = compile(&text, &Overrides { set, ..Overrides::default() });
            let program = program.unwrap_or_else(|| panic!("{}: {diagnostics:?}", path.display()));
            plan(&program, Options::default()).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()));
        }
        count += 1;
    }
    assert!(count >= 28, "{count} problems");
}
