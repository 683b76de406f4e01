//! Supports and moments of the samplers, within bounds from their own variance.

use super::*;
use crate::program::{CoordinateRef, ExprId, GroupId, IndexExpr};
use proptest::prelude::*;

fn group(name: &str, kind: GroupKind, first: usize, len: usize, domain: Domain) -> Group {
    let span = Span::default();
    Group { name: name.into(), span, kind, first, len, is_vector: len > 1, domain, periodic: false }
}

fn condition(region: Region, count: usize) -> Condition {
    let (name, span, residual) = ("interior".into(), Span::default(), ExprId(0));
    Condition { name, span, region, residual, weight: 1.0, enhance: None, matching: None, count }
}

fn face(group: u32, element: i64, value: f64, outward: i8) -> Region {
    let index = IndexExpr { offset: element, terms: vec![] };
    Region::Face { coordinate: CoordinateRef { group: GroupId(group), index }, value, outward }
}

/// Space x in -1..1, y in 0..3, time t in 0..0.5.
fn box_program(region: Region, count: usize) -> Program {
    let groups = vec![
        group("x", GroupKind::Space, 0, 1, Domain::Interval(-1.0, 1.0)),
        group("y", GroupKind::Space, 1, 1, Domain::Interval(0.0, 3.0)),
        group("t", GroupKind::Time, 2, 1, Domain::Interval(0.0, 0.5)),
    ];
    Program { groups, conditions: vec![condition(region, count)], ..Default::default() }
}

fn one_group(d: usize, domain: Domain, count: usize) -> Program {
    let conditions = vec![condition(Region::Interior, count)];
    Program { groups: vec![group("x", GroupKind::Space, 0, d, domain)], conditions, ..Default::default() }
}

fn sampler(program: &Program) -> Sampler {
    Sampler::new(program, 0, 7, None).unwrap()
}

fn points(program: &Program, step: u64) -> Vec<f64> {
    let mut batch = Batch::default();
    sampler(program).sample(step, &mut batch);
    batch.points
}

/// The mean of independent numbers against its expectation, within five of its standard deviations.
fn assert_mean(name: &str, sample: impl Iterator<Item = f64>, mean: f64, variance: f64) {
    let sample: Vec<f64> = sample.collect();
    let found = sample.iter().sum::<f64>() / sample.len() as f64;
    let deviation = (variance / sample.len() as f64).sqrt();
    assert!((found - mean).abs() < 5.0 * deviation, "{name}: {found}, expected {mean} +- {deviation}");
}

#[test]
fn interior_points_form_a_latin_hypercube_strictly_inside() {
    let program = box_program(Region::Interior, 1000);
    let sample = points(&program, 3);
    for (column, (lo, hi)) in [(-1.0, 1.0), (0.0, 3.0), (0.0, 0.5)].into_iter().enumerate() {
        let mut hit = vec![false; 1000];
        for point in sample.chunks(3) {
            let u = (point[column] - lo) / (hi - lo);
            assert!(u > 0.0 && u < 1.0);
            assert!(!std::mem::replace(&mut hit[(u * 1000.0) as usize], true), "one point per stratum");
        }
    }
    // The matching of the columns is random: no correlation, and it changes from step to step.
    let product = |p: &[f64]| p[0] * (p[1] - 1.5);
    assert_mean("E[x y]", sample.chunks(3).map(product), 0.0, 1.0 / 3.0 * 0.75);
    let other = points(&program, 4);
    assert_ne!(sample, other);
    assert_mean("E[x x']", sample.chunks(3).zip(other.chunks(3)).map(|(a, b)| a[0] * b[0]), 0.0, 1.0 / 9.0);
}

/// The mean of x^2 + y over many steps: its variance must be far below that of independent points.
#[test]
fn stratification_lowers_the_variance_and_keeps_the_mean() {
    let program = box_program(Region::Interior, 64);
    let f = |p: &[f64]| p[0] * p[0] + p[1];
    let means: Vec<f64> = (0..200).map(|s| points(&program, s).chunks(3).map(f).sum::<f64>() / 64.0).collect();
    let (mean, variance) = (1.0 / 3.0 + 1.5, 4.0 / 45.0 + 0.75);
    let spread = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / 200.0;
    assert!(spread < 1e-2 * variance / 64.0, "{spread}");
    assert_mean("f", means.into_iter(), mean, variance / 64.0 * 1e-2);
}

#[test]
fn single_precision_stays_inside_too() {
    let program = one_group(20, Domain::Interval(0.1, 1.0), 500);
    let mut batch = Batch::<f32>::default();
    for step in 0..20 {
        sampler(&program).sample(step, &mut batch);
        assert!(batch.points.iter().all(|x| f64::from(*x) > 0.1 && f64::from(*x) < 1.0));
    }
}

#[test]
fn many_columns_are_uniform() {
    let sample = points(&one_group(1000, Domain::Interval(0.0, 1.0), 50), 0);
    assert_mean("E[x]", sample.iter().copied(), 0.5, 1.0 / 12.0);
    assert_mean("E[x^2]", sample.iter().map(|x| x * x), 1.0 / 3.0, 4.0 / 45.0);
    assert_mean("E[x x']", sample.chunks(2).map(|p| (p[0] - 0.5) * (p[1] - 0.5)), 0.0, 1.0 / 144.0);
}

#[test]
fn balls_have_their_radius_and_no_direction() {
    for volume in [false, true] {
        let d = 5;
        let sample = points(&one_group(d, Domain::Ball { radius: 2.0, volume }, 4000), 1);
        let radii: Vec<f64> = sample.chunks(d).map(|p| p.iter().map(|x| x * x).sum::<f64>().sqrt()).collect();
        assert!(radii.iter().all(|r| *r > 0.0 && *r < 2.0 + 1e-12));
        // E[r] = R/2 or R d/(d + 1); E[r^2] = R^2/3 or R^2 d/(d + 2). Stratified, so far closer than independent draws.
        let (first, second) = if volume { (5.0 / 6.0, 5.0 / 7.0) } else { (0.5, 1.0 / 3.0) };
        let mean = radii.iter().sum::<f64>() / 4000.0;
        assert!((mean - 2.0 * first).abs() < 1e-3, "{mean}");
        assert_mean("x", sample.iter().copied(), 0.0, 4.0 * second / d as f64);
        let product = sample.chunks(d).map(|p| p[0] * p[1]);
        assert_mean("x y", product, 0.0, 16.0 / 35.0);
    }
}

#[test]
fn a_ball_may_have_many_groups() {
    let ball = Domain::Ball { radius: 1.0, volume: false };
    let groups = vec![group("x", GroupKind::Space, 0, 2, ball), group("y", GroupKind::Space, 2, 3, ball)];
    let program = Program { groups, conditions: vec![condition(Region::Interior, 300)], ..Default::default() };
    let radius = |p: &[f64]| p.iter().map(|x| x * x).sum::<f64>().sqrt();
    let sample = points(&program, 0);
    let largest = sample.chunks(5).map(radius).fold(0.0, f64::max);
    assert!(largest < 1.0 + 1e-12 && largest > 0.99);
}

#[test]
fn normal_and_brownian_moments() {
    let sample = points(&one_group(40, Domain::Normal, 1000), 0);
    assert_mean("z", sample.iter().copied(), 0.0, 1.0);
    assert_mean("z^2", sample.iter().map(|x| x * x), 1.0, 2.0);

    let scale = 2f64.sqrt();
    let groups = vec![
        group("x", GroupKind::Space, 0, 3, Domain::Brownian { scale }),
        group("t", GroupKind::Time, 3, 1, Domain::Interval(0.0, 0.3)),
    ];
    let mut program = Program { groups, conditions: vec![condition(Region::Interior, 4000)], ..Default::default() };
    let sample = points(&program, 2);
    assert!(sample.chunks(4).all(|p| p[3] > 0.0 && p[3] < 0.3));
    assert_mean("x^2/2t", sample.chunks(4).map(|p| p[0] * p[0] / (2.0 * p[3])), 1.0, 2.0);
    assert_mean(
        "x^2 is larger later",
        sample.chunks(4).map(|p| p[1] * p[1] * (p[3] - 0.15)),
        2.0 * 0.3 * 0.3 / 12.0,
        0.01,
    );
    assert_mean("no correlation with t", sample.chunks(4).map(|p| p[2] * (p[3] - 0.15)), 0.0, 0.3 * 0.0075);
    // At the end t is fixed and the variance is scale^2 T.
    program.conditions[0].region = face(1, 0, 0.3, 1);
    let sample = points(&program, 2);
    assert!(sample.chunks(4).all(|p| p[3] == 0.3));
    assert_mean("x^2", sample.chunks(4).map(|p| p[0] * p[0]), 0.6, 2.0 * 0.36);
}

#[test]
fn boundaries_are_spread_over_their_faces_with_outward_normals() {
    let program = box_program(Region::Boundary, 64);
    let mut batch = Batch::<f64>::default();
    sampler(&program).with_normals().sample(9, &mut batch);
    let mut faces = std::collections::BTreeMap::new();
    let mut strata = [false; 16];
    for (point, normal) in batch.points.chunks(3).zip(batch.normals.chunks(2)) {
        let expected = match (point[0], point[1]) {
            (-1.0, _) => [-1.0, 0.0],
            (1.0, _) => [1.0, 0.0],
            (_, 0.0) => [0.0, -1.0],
            (_, 3.0) => [0.0, 1.0],
            other => panic!("{other:?} is no boundary point"),
        };
        assert_eq!(normal, expected);
        assert!(point[2] > 0.0 && point[2] < 0.5, "time is anywhere");
        *faces.entry(format!("{normal:?}")).or_insert(0) += 1;
        if point[0] == 1.0 {
            let stratum = (point[1] / 3.0 * 16.0) as usize;
            assert!(!std::mem::replace(&mut strata[stratum], true), "stratified within a face");
        }
    }
    assert_eq!(faces.into_values().collect::<Vec<_>>(), [16; 4]);
}

#[test]
fn an_interval_has_two_ends_and_periodic_directions_have_none() {
    let mut program = one_group(1, Domain::Interval(0.0, 1.0), 2);
    program.conditions[0].region = Region::Boundary;
    for step in 0..10 {
        let mut ends = points(&program, step);
        ends.sort_by(f64::total_cmp);
        assert_eq!(ends, [0.0, 1.0]);
    }
    let mut program = box_program(Region::Boundary, 10);
    program.groups[0].periodic = true;
    assert!(points(&program, 0).chunks(3).all(|p| p[1] == 0.0 || p[1] == 3.0));
    program.groups[1].periodic = true;
    let error = Sampler::new(&program, 0, 0, None).unwrap_err();
    assert_eq!(error.message, "condition `interior` is on a boundary, but space has no faces");
}

#[test]
fn fewer_points_than_faces_reach_all_of_them_in_time() {
    let mut program = one_group(6, Domain::Interval(0.0, 1.0), 5);
    program.conditions[0].region = Region::Boundary;
    let mut seen = std::collections::BTreeSet::new();
    for step in 0..40 {
        for point in points(&program, step).chunks(6) {
            let on: Vec<usize> = (0..6).filter(|c| point[*c] == 0.0 || point[*c] == 1.0).collect();
            assert_eq!(on.len(), 1);
            seen.insert((on[0], point[on[0]] as u8));
        }
    }
    assert_eq!(seen.len(), 12);
}

#[test]
fn a_face_fixes_its_coordinate() {
    let program = box_program(face(1, 0, 3.0, 1), 30);
    let mut batch = Batch::<f64>::default();
    sampler(&program).with_normals().sample(0, &mut batch);
    assert!(batch.points.chunks(3).all(|p| p[1] == 3.0 && p[0].abs() < 1.0));
    assert!(batch.normals.chunks(2).all(|n| n == [0.0, 1.0]));
    // In time there is no normal.
    sampler(&box_program(face(2, 0, 0.0, -1), 30)).with_normals().sample(0, &mut batch);
    assert!(batch.normals.iter().all(|n| *n == 0.0));
}

#[test]
fn data_rows_are_dealt_once_per_epoch() {
    let program = box_program(Region::Data(crate::program::DataId(0)), 4);
    let table = Table {
        rows: 10,
        points: (0..30).map(f64::from).collect(),
        values: (0..10).map(|i| f64::from(100 + i)).collect(),
    };
    let sampler = Sampler::new(&program, 0, 7, Some(Arc::new(table))).unwrap();
    let mut rows = Vec::new();
    for step in 0..10 {
        let mut batch = Batch::<f64>::default();
        sampler.sample(step, &mut batch);
        for (point, value) in batch.points.chunks(3).zip(&batch.data) {
            let row = value - 100.0;
            assert_eq!(point, [3.0 * row, 3.0 * row + 1.0, 3.0 * row + 2.0]);
            rows.push(row as usize);
        }
    }
    for epoch in rows.chunks(10) {
        let mut sorted = epoch.to_vec();
        sorted.sort();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }
    assert_ne!(rows[..10], rows[10..20]);
    assert!(Sampler::new(&program, 0, 7, None).is_err());
}

#[test]
fn a_group_without_a_domain_says_what_to_write() {
    let mut program = box_program(Region::Interior, 4);
    program.groups[0].domain = Domain::None;
    let error = Sampler::new(&program, 0, 0, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: points are drawn, but `x` does not say from where; write, for example, `space x in box(0..1)`"
    );
    // Unless it is the one coordinate that is fixed.
    program.conditions[0].region = face(0, 0, 1.0, 0);
    assert!(points(&program, 0).chunks(3).all(|p| p[0] == 1.0));
    program.groups[1].domain = Domain::Brownian { scale: 1.0 };
    program.groups.truncate(2);
    assert!(Sampler::new(&program, 0, 0, None).unwrap_err().message.contains("there is no time"));
}

#[test]
fn no_points_and_no_columns_are_fine() {
    assert!(points(&one_group(3, Domain::Normal, 0), 0).is_empty());
    let program = Program { conditions: vec![condition(Region::Interior, 5)], ..Default::default() };
    assert!(points(&program, 0).is_empty());
}

#[test]
fn test_points_are_others_than_those_of_training() {
    let program = one_group(3, Domain::Normal, 20);
    let mut test = Batch::<f64>::default();
    Sampler::test(&program, 0, 20, 7).unwrap().sample(0, &mut test);
    assert_ne!(test.points, points(&program, 0));
}

proptest! {
    /// Any range of any step is what the whole step says; threads and order do not matter.
    #[test]
    fn random_access(step in 0u64..1 << 33, a in 0usize..50, b in 0usize..50, which in 0usize..5) {
        let ball = Domain::Ball { radius: 1.0, volume: true };
        let program = match which {
            0 => box_program(Region::Interior, 50),
            1 => box_program(Region::Boundary, 50),
            2 => one_group(1030, ball, 50),
            3 => one_group(1030, Domain::Normal, 50),
            _ => one_group(1030, Domain::Interval(0.0, 1.0), 50),
        };
        let sampler = sampler(&program).with_normals();
        let (mut whole, mut part) = (Batch::<f64>::default(), Batch::<f64>::default());
        sampler.sample(step, &mut whole);
        sampler.sample_rows(step, a.min(b)..a.max(b), &mut part);
        let columns = program.columns();
        prop_assert_eq!(&part.points, &whole.points[a.min(b) * columns..a.max(b) * columns]);
        let space = program.space_dimension();
        prop_assert_eq!(&part.normals, &whole.normals[a.min(b) * space..a.max(b) * space]);
    }
}
