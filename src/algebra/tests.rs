use super::*;

fn x(symbol: u32) -> Polynomial {
    Polynomial::symbol(symbol)
}
fn c(symbol: u32) -> Coefficient {
    Coefficient::symbol(symbol)
}
fn ratio(n: i64, d: i64) -> Coefficient {
    Rational::new(n.into(), d.into()).into()
}
fn sum(terms: impl IntoIterator<Item = Polynomial>) -> Polynomial {
    terms.into_iter().fold(Polynomial::zero(), |sum, p| &sum + &p)
}
fn product(factors: &[u32]) -> Polynomial {
    factors.iter().fold(Polynomial::one(), |product, &s| &product * &x(s))
}
fn lap(symbols: std::ops::Range<u32>) -> Polynomial {
    sum(symbols.map(|s| x(s).pow(2)))
}
/// sum of (numerator / denominator) times a product of symbols
fn poly(terms: &[(i64, i64, &[u32])]) -> Polynomial {
    sum(terms.iter().map(|&(n, d, factors)| product(factors).scale(&ratio(n, d))))
}

/// Closes the targets and checks everything that must hold of the result.
pub(super) fn checked(targets: &[Polynomial]) -> JetAlgebra {
    let algebra = closure(targets).unwrap();
    assert!(algebra.is_closed(), "{targets:?}");
    assert!(algebra.certificate.holds(targets), "{targets:?}");
    assert!(algebra.rows() >= algebra.lower_bound());
    for p in targets {
        let read = algebra.read(p).unwrap_or_else(|| panic!("{p} does not read off {algebra}"));
        let back = sum(read.iter().map(|(k, value)| algebra.basis[*k].scale(value)));
        assert_eq!(&back, p);
    }
    assert!(algebra.table.is_sorted_by_key(|e| (e.out, e.a, e.b)));
    assert!(algebra.table.iter().all(|e| 1 <= e.a && e.a <= e.b && e.b < algebra.rows() && !e.c.is_zero()));
    algebra
}

/// (rows, products), minimal.
fn minimal(targets: &[Polynomial]) -> (usize, usize) {
    let algebra = checked(targets);
    assert!(algebra.is_minimal(), "{algebra}");
    (algebra.rows(), algebra.products())
}

/// The table of the reference implementation: operator, targets, rows, products.
pub(super) fn reference() -> Vec<(&'static str, Vec<Polynomial>, usize, usize)> {
    let (a, b) = (x(0), x(1));
    let mut table = vec![
        ("lap(u) + d_xy(u)", vec![&lap(0..2) + &product(&[0, 1])], 4, 3),
        ("d_xx(u) + 2*d_xy(u) + d_yy(u)", vec![(&a + &b).pow(2)], 3, 1),
        ("d_xy(u)", vec![product(&[0, 1])], 4, 1),
        ("d_xxy(u)", vec![product(&[0, 0, 1])], 6, 4),
        ("d_xxyy(u)", vec![product(&[0, 0, 1, 1])], 9, 11),
        ("d_xyz(u)", vec![product(&[0, 1, 2])], 8, 6),
        ("d_xxyyzz(u)", vec![product(&[0, 0, 1, 1, 2, 2])], 27, 85),
        ("heat", vec![poly(&[(1, 1, &[1]), (-3, 10, &[0, 0])])], 3, 1),
        ("Burgers", vec![a.clone(), poly(&[(1, 1, &[1]), (-1, 100, &[0, 0])])], 3, 1),
        ("KdV", vec![a.clone(), poly(&[(1, 1, &[1]), (25, 10000, &[0, 0, 0])])], 4, 2),
        ("Kuramoto-Sivashinsky", vec![a.clone(), poly(&[(1, 1, &[1]), (1, 1, &[0, 0]), (1, 1, &[0, 0, 0, 0])])], 5, 4),
        ("KP", vec![a.clone(), a.pow(2), poly(&[(1, 1, &[2, 0]), (1, 1, &[0, 0, 0, 0]), (3, 1, &[1, 1])])], 6, 5),
        (
            "KdV 2D",
            vec![
                product(&[0, 1]),
                a.clone(),
                b.clone(),
                a.pow(2),
                poly(&[(1, 1, &[2, 1]), (1, 1, &[0, 0, 0, 1]), (-1, 1, &[0, 0]), (2, 1, &[1, 1])]),
            ],
            8,
            9,
        ),
        ("Navier-Stokes 2D momentum", vec![a.clone(), b.clone(), &x(2) - &lap(0..2).scale(&ratio(1, 10))], 4, 2),
        ("wave, d = 3", vec![&x(3).pow(2) - &lap(0..3)], 6, 4),
        ("HJB, d = 8", (0..8).map(x).chain([&x(8) + &lap(0..8)]).collect(), 10, 8),
        ("Monge-Ampere", vec![a.pow(2), product(&[0, 1]), b.pow(2)], 6, 3),
        (
            "Cahn-Hilliard",
            vec![a.clone(), b.clone(), lap(0..2), &x(2) + &lap(0..2).pow(2).scale(&ratio(2, 100))],
            9,
            15,
        ),
    ];
    for (d, rows) in [(2, 4), (3, 5), (5, 7), (10, 12)] {
        table.push(("lap(u)", vec![lap(0..d)], rows, d as usize));
    }
    for (d, rows, products) in [(2, 9, 15), (3, 14, 33), (5, 27, 90)] {
        table.push(("lap(lap(u))", vec![lap(0..d).pow(2)], rows, products));
    }
    for (d, rows, products) in [(2, 16, 56), (3, 30, 184)] {
        table.push(("lap(lap(lap(u)))", vec![lap(0..d).pow(3)], rows, products));
    }
    for (k, products) in [(1, 0), (2, 1), (3, 2), (4, 4), (6, 9)] {
        table.push(("d_x..x(u)", vec![a.pow(k)], k as usize + 1, products));
    }
    table
}

#[test]
fn rows_of_the_reference_are_reached() {
    for (name, targets, rows, products) in reference() {
        let found = minimal(&targets);
        assert_eq!(found.0, rows, "{name}");
        assert!(found.1 <= products, "{name}: {found:?}, listed {products}");
    }
}

#[test]
fn quadratic_rows_become_diagonal() {
    assert_eq!(minimal(&[&lap(0..2) + &product(&[0, 1])]), (4, 2));
    // trace(A hess u) with a full A
    let d = 8;
    let entry = |i: i64, j: i64| {
        product(&[i as u32, j as u32])
            .scale(&ratio(3i64.pow((i - j).unsigned_abs() as u32), 10i64.pow((i - j).unsigned_abs() as u32)))
    };
    let full = sum((0..d).flat_map(|i| (0..d).map(move |j| (i, j))).map(|(i, j)| entry(i, j)));
    assert_eq!(minimal(&[full]), (d as usize + 2, d as usize));
    // many symbols, small numbers: no fractions pile up
    let d = 64;
    let full = sum((0..d)
        .flat_map(|i| (0..d).map(move |j| (i, j)))
        .map(|(i, j)| poly(&[((i * j * 7919 + i + j) as i64 % 1000, 1000, &[i, j])])));
    assert_eq!(closure(&[full]).unwrap().products(), 64);
    // a hyperbolic form without diagonal
    let pairs = sum([product(&[0, 1]), product(&[1, 2]), product(&[2, 0])]);
    assert_eq!(minimal(&[pairs]), (5, 2));
    // forms over separate symbols
    let two = [&lap(0..2) + &product(&[0, 1]), &lap(2..4) + &product(&[2, 3])];
    assert_eq!(minimal(&two), (7, 4));
}

#[test]
fn varying_coefficients() {
    // u_t + 0.08 sum c_i u_ii + sum b_i u_i
    let diffusion = sum((0..6).map(|i| x(i).pow(2).scale(&c(i)).scale(&ratio(8, 100))));
    let drift = sum((0..6).map(|i| x(i).scale(&c(10 + i))));
    let algebra = checked(&[&(&x(6) + &diffusion) + &drift]);
    assert_eq!((algebra.rows(), algebra.products(), algebra.lower_bound()), (8, 6, 8));
    assert!(algebra.table.iter().all(|e| !e.c.is_constant()));
    // KdV, nu varying
    assert_eq!(minimal(&[x(0), &x(1) + &x(0).pow(3).scale(&c(0))]).0, 4);
    // div((1 + |x|^2) grad u)
    let d = 5;
    let algebra = checked(&[&lap(0..d).scale(&c(0)) + &sum((0..d).map(|i| x(i).scale(&c(1 + i))))]);
    assert_eq!((algebra.rows(), algebra.products()), (7, 5));
    assert!(algebra.table.iter().all(|e| e.c.is_constant()));
    // (a d_x + b d_y)^2 u
    let along = &x(0).scale(&c(0)) + &x(1).scale(&c(1));
    let algebra = checked(&[along.pow(2)]);
    assert_eq!((algebra.rows(), algebra.products()), (3, 1));
    assert_eq!(algebra.table[0].c, Coefficient::integer(2));
    // hard boundary factor
    let drift = sum((0..d).map(|i| x(i).scale(&c(1 + i)).scale(&Coefficient::integer(-4))));
    let hard = &(&lap(0..d).scale(&c(0)) + &drift) - &Polynomial::constant(Coefficient::integer(10));
    assert_eq!(minimal(&[hard, Polynomial::one()]), (7, 5));
    // Burgers, nu varying: valid at nu = 0
    let algebra = checked(&[x(0), &x(1) - &x(0).pow(2).scale(&c(0))]);
    assert_eq!((algebra.rows(), algebra.products()), (3, 1));
    let at_zero = algebra.basis.iter().map(|p| p.map(|c| c.evaluate(&|_| Rational::from_integer(0.into())).into()));
    assert!(at_zero.into_iter().all(|p| !p.is_zero()));
}

#[test]
fn nothing_to_compute() {
    for targets in [vec![], vec![Polynomial::zero()], vec![Polynomial::constant(c(0))]] {
        let algebra = checked(&targets);
        assert_eq!((algebra.rows(), algebra.products(), algebra.order, algebra.lower_bound()), (1, 0, 0, 1));
    }
}

#[test]
fn too_large_says_how_large() {
    assert_eq!(closure(&[x(0).pow(17)]).unwrap_err(), TooLarge { order: 17, rows: RowCount::Exactly(18) });
    assert_eq!(closure(&[lap(0..5000)]).unwrap_err(), TooLarge { order: 2, rows: RowCount::MoreThan(MAX_ROWS) });
    let error = closure(&[lap(0..60).pow(3)]).unwrap_err();
    insta::assert_snapshot!(error, @"order 6 with more than 4096 rows is too large: at most order 16 and 4096 rows");
}

#[test]
fn large_inputs() {
    for d in [100, 1000] {
        assert_eq!(closure(&[lap(0..d)]).unwrap().rows(), d as usize + 2);
    }
    assert_eq!(closure(&[sum((0..32).map(|s| x(s).pow(4)))]).unwrap().rows(), 98);
    let mixed: Vec<Polynomial> = (16..32).map(|j| &lap(0..16) * &x(j)).collect();
    assert_eq!(closure(&mixed).unwrap().rows(), 16 * 16 + 16 + 32 + 2);
    // the full jet of order 6 in 5 variables
    let mut full = vec![Polynomial::one()];
    for _ in 0..6 {
        full = full.iter().flat_map(|p| (0..5).map(|s| p * &x(s)).collect::<Vec<_>>()).collect();
        full.sort_by_key(|p| p.to_string());
        full.dedup();
    }
    assert_eq!(closure(&full).unwrap().rows(), 462);
}

#[test]
fn text_form() {
    let burgers = closure(&[x(0), &x(1) - &x(0).pow(2).scale(&c(0))]).unwrap();
    insta::assert_snapshot!(burgers);
    let bilaplacian = closure(&[lap(0..2).pow(2)]).unwrap();
    insta::assert_snapshot!(bilaplacian);
    let sheared = closure(&[&lap(0..2) + &product(&[0, 1])]).unwrap();
    insta::assert_snapshot!(sheared);
    let diffusion = [&x(2) + &sum((0..2).map(|i| &x(i).pow(2).scale(&c(i)) + &x(i).scale(&c(2 + i))))];
    insta::assert_snapshot!(closure(&diffusion).unwrap());
}

#[test]
fn other_methods() {
    let rows = |p: Polynomial| {
        let Compared { taylor, collapsed_taylor, nested_forward_laplacian, full_jet } = compare(&[p]);
        (taylor, collapsed_taylor, nested_forward_laplacian, full_jet)
    };
    assert_eq!(rows(lap(0..5).pow(2)), (141, 109, 49, 126));
    assert_eq!(rows(lap(0..7)), (15, 9, 9, 36));
    assert_eq!(rows(x(0)), (2, 2, 2, 2));
    assert_eq!(rows(x(0).pow(3)), (4, 4, 6, 4));
    // u_xy: rays (2, 0), (0, 2), (1, 1)
    assert_eq!(rows(product(&[0, 1])).0, 7);
    // u_xxy: rays (3, 0), (0, 3), (2, 1), (1, 2)
    assert_eq!(rows(product(&[0, 0, 1])).0, 13);
    assert_eq!(rows(Polynomial::one()), (1, 1, 1, 1));
    let astronomical = product(&(0..16).collect::<Vec<_>>());
    assert_eq!(rows(astronomical).3, 601080390);
}

#[test]
fn varying_coefficients_of_products_and_systems() {
    let one = Coefficient::one();
    let l = &x(0).scale(&(&one + &c(0))) + &x(1).scale(&(&one + &c(1)));
    let m = &x(0).scale(&c(0)) + &x(1).scale(&c(1));
    let k = &x(0).scale(&c(2)) + &x(1).scale(&c(3));
    let p = sum((0..3).map(|i| x(i).pow(2).scale(&c(i))));
    let q = sum((0..3).map(|i| x(i).pow(2).scale(&c(3 + i))));
    let ml = &m.pow(2) + &(&x(2) * &x(3)).scale(&c(5));
    for (name, rows, targets) in [
        ("m^3", 4, vec![m.pow(3)]),
        ("m^4 + t", 5, vec![&m.pow(4) + &x(2)]),
        ("m^2 z", 6, vec![&m.pow(2) * &x(2)]),
        ("m^2, k^2", 5, vec![m.pow(2), k.pow(2)]),
        ("m^2, m k", 5, vec![m.pow(2), &m * &k]),
        ("m^2 + c zw", 5, vec![ml]),
        ("p, q", 6, vec![p.clone(), q.clone()]),
        ("p z, q", 11, vec![&p * &x(4), q.clone()]),
        ("p^2", 14, vec![p.pow(2)]),
        ("p^2 + p", 14, vec![&p.pow(2) + &p.scale(&c(7))]),
        ("nu lap^2 + m", 14, vec![&lap(0..3).pow(2).scale(&c(8)) + &m]),
        ("t + nu lap, t", 6, vec![&x(4) + &lap(0..3).scale(&c(8)), x(4)]),
        ("t + nu lap, t + mu lap", 6, vec![&x(4) + &lap(0..3).scale(&c(8)), &x(4) + &lap(0..3).scale(&c(9))]),
        ("x, t + a xxx + b xx", 4, vec![x(0), &(&x(1) + &x(0).pow(3).scale(&c(0))) + &x(0).pow(2).scale(&c(1))]),
    ] {
        let algebra = checked(&targets);
        assert_eq!((algebra.rows(), algebra.lower_bound()), (rows, rows), "{name}");
    }
    // The derivatives are (1 + a) l and (1 + b) l, of which l is no combination with whole coefficients: the
    // constant hull serves, and the certificate tells the difference.
    let algebra = checked(&[l.pow(2)]);
    assert_eq!((algebra.rows(), algebra.lower_bound()), (6, 3));
}
