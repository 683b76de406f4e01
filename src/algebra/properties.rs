//! Properties of random algebras, and the algebra against the full jet on a network.
use super::tests::checked;
use super::*;
use proptest::prelude::*;

fn monomial(symbols: u32, degree: usize) -> impl Strategy<Value = Monomial> + Clone {
    prop::collection::vec(0..symbols, 0..=degree).prop_map(|s| Monomial::new(s.into_iter().map(|s| (s, 1))))
}

fn constant() -> impl Strategy<Value = Coefficient> + Clone {
    (-6i64..=6, 1i64..=5).prop_map(|(n, d)| Rational::new(n.into(), d.into()).into())
}

fn varying() -> impl Strategy<Value = Coefficient> + Clone {
    let term = (constant(), monomial(3, 2))
        .prop_map(|(value, m)| &value * &Coefficient::term(m, Rational::from_integer(1.into())));
    prop::collection::vec(term, 1..3).prop_map(|t| t.iter().fold(Coefficient::zero(), |sum, term| &sum + term))
}

fn targets(c: impl Strategy<Value = Coefficient> + Clone, count: usize) -> impl Strategy<Value = Vec<Polynomial>> {
    let p = prop::collection::vec((monomial(4, 4), c), 1..5).prop_map(Polynomial::from_terms);
    prop::collection::vec(p, 1..=count)
}

/// The product of two elements.
fn multiply(algebra: &JetAlgebra, x: &[Coefficient], y: &[Coefficient]) -> Vec<Coefficient> {
    let mut out = vec![&x[0] * &y[0]];
    out.extend((1..algebra.rows()).map(|k| &(&x[0] * &y[k]) + &(&x[k] * &y[0])));
    for Entry { out: row, a, b, c } in &algebra.table {
        let other = if a == b { Coefficient::zero() } else { &x[*b] * &y[*a] };
        out[*row] = &out[*row] + &(c * &(&(&x[*a] * &y[*b]) + &other));
    }
    out
}

fn check_ring(algebra: &JetAlgebra) {
    let element = |seed: i64| -> Vec<Coefficient> {
        (0..algebra.rows() as i64).map(|k| Coefficient::integer((k * k * 31 + k * seed + 7 * seed) % 11 - 5)).collect()
    };
    let (x, y, z) = (element(3), element(5), element(8));
    assert_eq!(multiply(algebra, &x, &y), multiply(algebra, &y, &x));
    let left = multiply(algebra, &multiply(algebra, &x, &y), &z);
    assert_eq!(left, multiply(algebra, &x, &multiply(algebra, &y, &z)), "{algebra}");
    // nilpotent
    let mut n = x;
    n[0] = Coefficient::zero();
    let power = |k: usize| (1..k).fold(n.clone(), |power, _| multiply(algebra, &power, &n));
    assert!(power(algebra.order + 1).iter().all(Coefficient::is_zero));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn constant_targets(targets in targets(constant(), 3)) {
        let algebra = checked(&targets);
        prop_assert!(algebra.is_minimal());
        prop_assert!(algebra.table.iter().all(|e| e.c.is_constant()));
        check_ring(&algebra);
    }

    #[test]
    fn varying_targets(targets in targets(varying(), 2)) {
        check_ring(&checked(&targets));
    }

    #[test]
    fn rows_do_not_depend_on_the_coordinates(targets in targets(constant(), 2)) {
        // x_0 -> x_0 + 2 x_1 is invertible: as many rows.
        let shear = |p: &Polynomial| p.terms().fold(Polynomial::zero(), |sum, (m, c)| {
            let image = m.factors().iter().fold(Polynomial::constant(c.clone()), |product, &(s, e)| {
                let x = Polynomial::symbol(s);
                let x = if s == 0 { &x + &Polynomial::symbol(1).scale(&Coefficient::integer(2)) } else { x };
                &product * &x.pow(e)
            });
            &sum + &image
        });
        let sheared: Vec<Polynomial> = targets.iter().map(shear).collect();
        prop_assert_eq!(checked(&targets).rows(), checked(&sheared).rows());
    }

    #[test]
    fn exact_division(a in varying(), b in varying()) {
        prop_assume!(!b.is_zero());
        prop_assert_eq!((&a * &b).divide(&b), Some(a.clone()));
        if let Some(quotient) = a.divide(&b) {
            prop_assert_eq!(&quotient * &b, a);
        }
    }
}

/// Numbers in [-1, 1) from a fixed generator.
struct Numbers(u64);
impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
    fn many(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}

/// p(D)u at a point for each target, u a fixed network n -> 4 -> 4 -> 1 with tanh, in the given algebra; coefficient symbols
/// take the values given.
fn network(algebra: &JetAlgebra, targets: &[Polynomial], point: &[f64], value: &dyn Fn(u32) -> f64) -> Vec<f64> {
    let table: Vec<_> = algebra.table.iter().map(|e| (e.out, e.a, e.b, e.c.evaluate_f64(value))).collect();
    let times = |x: &[f64], y: &[f64]| {
        let mut out: Vec<f64> = x.iter().zip(y).map(|(xk, yk)| x[0] * yk + xk * y[0]).collect();
        out[0] = x[0] * y[0];
        for &(k, a, b, c) in &table {
            out[k] += c * if a == b { x[a] * y[a] } else { x[a] * y[b] + x[b] * y[a] };
        }
        out
    };
    let tanh = |h: &[f64]| {
        let (mut n, t) = (h.to_vec(), h[0].tanh());
        n[0] = 0.0;
        // Derivatives of tanh are polynomials in tanh: d/dh = (1 - t^2) d/dt.
        let (mut derivative, mut factorial) = (vec![0.0, 1.0], 1.0);
        let mut power: Vec<f64> = (0..h.len()).map(|k| if k == 0 { 1.0 } else { 0.0 }).collect();
        let mut out = vec![0.0; h.len()];
        for k in 0..=algebra.order {
            let d = derivative.iter().rev().fold(0.0, |value, c| value * t + c);
            out.iter_mut().zip(&power).for_each(|(o, p)| *o += d / factorial * p);
            power = times(&power, &n);
            factorial *= (k + 1) as f64;
            let mut next = vec![0.0; derivative.len() + 1];
            for (i, c) in derivative.iter().enumerate().skip(1) {
                next[i - 1] += i as f64 * c;
                next[i + 1] -= i as f64 * c;
            }
            derivative = next;
        }
        out
    };
    let mut numbers = Numbers(7);
    let mut h: Vec<Vec<f64>> = point
        .iter()
        .map(|&x| {
            let mut jet = vec![0.0; algebra.rows()];
            jet[0] = x;
            jet
        })
        .collect();
    for (row, symbol, c) in algebra.seeds() {
        h[symbol as usize][row] = c.evaluate_f64(value);
    }
    for (layer, width) in [4, 4, 1].into_iter().enumerate() {
        let z: Vec<Vec<f64>> = (0..width)
            .map(|_| {
                let (weights, bias) = (numbers.many(h.len()), numbers.next());
                (0..algebra.rows())
                    .map(|k| {
                        let sum: f64 = weights.iter().zip(&h).map(|(w, x)| w * x[k]).sum();
                        if k == 0 { sum + bias } else { sum }
                    })
                    .collect()
            })
            .collect();
        h = if layer == 2 { z } else { z.iter().map(|z| tanh(z)).collect() };
    }
    let read = |p| algebra.read(p).into_iter().flatten().map(|(k, c)| c.evaluate_f64(value) * h[0][k]).sum();
    targets.iter().map(read).collect()
}

/// All derivatives up to an order: closed, without any cleverness.
fn full_jet(n: u32, order: u32) -> JetAlgebra {
    let mut monomials = BTreeSet::from([Monomial::one()]);
    for _ in 0..order {
        let next = monomials.iter().flat_map(|m| (0..n).map(|s| m.times(&Monomial::symbol(s))));
        monomials = next.chain([Monomial::one()]).collect();
    }
    let basis = monomials.into_iter().map(|m| Polynomial::term(m, Coefficient::one())).collect();
    JetAlgebra::from_basis(basis).unwrap()
}

fn agrees_with_the_full_jet(targets: &[Polynomial]) {
    let n = targets.iter().flat_map(Polynomial::symbols).max().map_or(1, |s| s + 1);
    let order = targets.iter().map(Polynomial::degree).max().unwrap_or(0);
    let value = |symbol: u32| 0.3 + 0.4 * f64::from(symbol);
    let point = Numbers(3).many(n as usize);
    let ours = network(&closure(targets).unwrap(), targets, &point, &value);
    let full = network(&full_jet(n, order as u32), targets, &point, &value);
    for (a, b) in ours.iter().zip(&full) {
        assert!((a - b).abs() <= 1e-9 * b.abs().max(1e-3), "{targets:?}: {a} {b}");
    }
}

#[test]
fn reference_targets_agree_with_the_full_jet() {
    for (_, targets, ..) in super::tests::reference() {
        if targets.iter().flat_map(Polynomial::symbols).max() < Some(3) {
            agrees_with_the_full_jet(&targets);
        }
    }
}

#[test]
fn the_full_jet_agrees_with_differences() {
    // Each derivative of order up to 3 is the central difference of one of lower order.
    let (algebra, step, point) = (full_jet(2, 4), 1e-4, [0.3, -0.2]);
    for m in algebra.basis.iter().filter(|p| p.degree() < 4) {
        for symbol in 0..2u32 {
            let at = |shift: f64, p: &Polynomial| {
                let mut point = point;
                point[symbol as usize] += shift;
                network(&algebra, std::slice::from_ref(p), &point, &|_| 0.0)[0]
            };
            let (exact, difference) =
                (at(0.0, &(m * &Polynomial::symbol(symbol))), (at(step, m) - at(-step, m)) / (2.0 * step));
            assert!((exact - difference).abs() < 1e-5 * exact.abs().max(1.0), "{m} {symbol}: {exact} {difference}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_targets_agree_with_the_full_jet(targets in targets(varying(), 2)) {
        agrees_with_the_full_jet(&targets);
    }
}
