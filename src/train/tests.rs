//! The loop on a toy objective whose minimum is known.

use super::*;
use crate::diagnostic::Span;
use crate::net::{Element, Parameters, Philox};
use crate::program::{Decay, Learning, Param, Program, Training};
use std::path::Path;

/// Loss (a - 3)^2 + (ln b)^2 with noise on the gradient that depends on the step alone.
#[derive(Default)]
struct Quadratic {
    poison_at: Option<u64>,
    /// Measurements are slow, and this one, from 1, fails.
    dies_at: Option<usize>,
    measured: usize,
}

impl<T: Element> Objective<T> for Quadratic {
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        vec![("a".into(), vec![]), ("b".into(), vec![])]
    }
    fn conditions(&self) -> Vec<String> {
        vec!["first".into(), "second".into()]
    }
    fn reports(&self) -> Vec<String> {
        vec!["error(a)".into(), "value(b)".into()]
    }
    fn step(
        &mut self,
        step: u64,
        tensors: &[Vec<T>],
        gradients: &mut [Vec<T>],
        losses: &mut [f64],
    ) -> Result<(), ObjectiveError> {
        let (a, b) = (tensors[0][0].f64(), tensors[1][0].f64());
        assert!(b > 0.0, "a parameter learned in its logarithm stays positive");
        losses.copy_from_slice(&[(a - 3.0).powi(2), b.ln().powi(2)]);
        let noise = 0.1 * Philox::new(1, 0, step as u32).normal(0);
        gradients[0][0] = T::of(2.0 * (a - 3.0) + noise);
        gradients[1][0] = T::of(2.0 * b.ln() / b);
        if self.poison_at == Some(step) {
            losses[1] = f64::NAN;
        }
        Ok(())
    }
    fn measure(&mut self, tensors: &[Vec<T>]) -> Result<Vec<Measurement>, ObjectiveError> {
        self.measured += 1;
        if let Some(at) = self.dies_at {
            std::thread::sleep(std::time::Duration::from_millis(2100));
            if self.measured == at {
                return Err("killed".into());
            }
        }
        let error = Some((tensors[0][0].f64() / 3.0 - 1.0).abs());
        let (label, best_constant) = ("error(a)".to_owned(), Some(0.5));
        let error = Measurement { label, l2_relative: error, l1_relative: error, best_constant, ..Default::default() };
        let value = Some(tensors[1][0].f64());
        Ok(vec![error, Measurement { label: "value(b)".into(), value, reference: Some(1.0), ..Default::default() }])
    }
}

/// Stops after a step.
struct StopAfter(u64);

impl Observer for StopAfter {
    fn progress(&mut self, progress: &Progress<'_>) -> Flow {
        if progress.step >= self.0 { Flow::Stop } else { Flow::Continue }
    }
}

fn parameters<T: Element>() -> Parameters<T> {
    let param = |name: &str, value, learn| Param { name: name.into(), span: Span::default(), value, learn };
    let params = vec![param("a", 0.0, Learning::Linear), param("b", 5.0, Learning::Log)];
    Parameters::initial(&Program { params, ..Default::default() }, 0)
}

fn options(out: &Path, decay: Decay, steps: usize) -> Options {
    let training = Training {
        rate: 0.05,
        decay,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        steps,
        batch: None,
        span: Span::default(),
    };
    let program = "line one\nline two".to_owned();
    Options { program, measure_every: Some(50), record_every: Some(7), ..Options::new(training, out) }
}

fn run<T: Element>(options: &Options, observer: &mut dyn Observer) -> Result<(Parameters<T>, Outcome), Error> {
    let mut parameters = parameters::<T>();
    let outcome = train(&mut Quadratic::default(), &mut parameters, options, observer)?;
    Ok((parameters, outcome))
}

/// The history without its last column, the seconds; as text, because of empty cells.
fn timeless(outcome: &Outcome) -> Vec<String> {
    outcome.history.to_csv().lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect()
}

#[test]
fn it_finds_the_minimum_and_writes_everything() {
    let folder = tempfile::tempdir().unwrap();
    let (found, outcome) = run::<f64>(&options(folder.path(), Decay::Cosine, 600), &mut Silent).unwrap();
    assert!((found.get("a").unwrap()[0] - 3.0).abs() < 0.05);
    assert!((found.get("b").unwrap()[0] - 1.0).abs() < 1e-2);
    assert!(outcome.finished && outcome.step == 600);
    let mut loaded = parameters::<f64>();
    let metadata = loaded.load(&folder.path().join("solver.safetensors")).unwrap().metadata;
    assert_eq!(loaded, found);
    assert_eq!(metadata["step"], "600");
    let report = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["steps"], 600);
    assert_eq!(report["seed"], 0);
    assert_eq!(report["device"], "cpu");
    assert_eq!(report["best_constant"], 0.5);
    assert!(report["error"]["l2_relative"].as_f64().unwrap() < 0.02);
    assert!((report["values"]["value(b)"].as_f64().unwrap() - 1.0).abs() < 1e-2);
    assert!(report["peak_memory_bytes"].is_null() || report["peak_memory_bytes"].as_u64().unwrap() > 1 << 20);
    let history = std::fs::read_to_string(folder.path().join("history.csv")).unwrap();
    assert_eq!(history, outcome.history.to_csv());
    assert_eq!(history.lines().next(), Some("step,loss,first,second,lr,error(a),value(b),seconds"));
    let errors = outcome.history.column("error(a)").unwrap();
    assert_eq!(errors.iter().filter(|e| !e.is_nan()).count(), 12, "every 50 of 600 steps");
}

fn resumed_equals_unbroken<T: Element>(stops: &[u64]) {
    let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (expected, unbroken) = run::<T>(&options(whole.path(), Decay::Cosine, 200), &mut Silent).unwrap();
    let options = Options { resume: true, ..options(broken.path(), Decay::Cosine, 200) };
    for stop in stops {
        let (_, outcome) = run::<T>(&options, &mut StopAfter(*stop)).unwrap();
        assert!(!outcome.finished && outcome.step == *stop);
    }
    let (found, outcome) = run::<T>(&options, &mut Silent).unwrap();
    assert_eq!(outcome.resumed_from, stops.last().copied());
    assert_eq!(found, expected);
    assert_eq!(timeless(&outcome), timeless(&unbroken));
    let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join("solver.safetensors")).unwrap();
    assert_eq!(read(&whole), read(&broken));
}

#[test]
fn a_resumed_run_ends_in_the_same_bits() {
    resumed_equals_unbroken::<f64>(&[1, 100, 199]);
    resumed_equals_unbroken::<f32>(&[63]);
}

#[test]
fn resuming_a_finished_run_only_measures_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { resume: true, ..options(folder.path(), Decay::Linear, 30) };
    let (first, before) = run::<f64>(&options, &mut Silent).unwrap();
    let (second, after) = run::<f64>(&options, &mut Silent).unwrap();
    assert_eq!(first, second);
    assert_eq!(before.measurements, after.measurements);
    assert_eq!((after.resumed_from, after.steps_per_second), (Some(30), None));
    assert_eq!(timeless(&before), timeless(&after));
}

#[test]
fn a_constant_rate_lets_a_run_be_prolonged() {
    let [short, long] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    run::<f64>(&options(short.path(), Decay::Constant, 40), &mut Silent).unwrap();
    let longer = Options { resume: true, ..options(short.path(), Decay::Constant, 90) };
    let (prolonged, _) = run::<f64>(&longer, &mut Silent).unwrap();
    let (unbroken, _) = run::<f64>(&options(long.path(), Decay::Constant, 90), &mut Silent).unwrap();
    assert_eq!(prolonged, unbroken);
}

#[test]
fn what_changed_is_named_when_resuming_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = options(folder.path(), Decay::Linear, 30);
    run::<f64>(&first, &mut Silent).unwrap();
    let same = Options { resume: true, ..first };
    let refusal = |options: Options| {
        let text = run::<f64>(&options, &mut Silent).unwrap_err().to_string();
        text.split_once("it was made with ").unwrap().1.split_once("; train").unwrap().0.to_owned()
    };
    assert_eq!(refusal(Options { seed: 4, ..same.clone() }), "seed = 0, this run has seed = 4");
    let mut more = same.clone();
    more.training.steps = 31;
    assert_eq!(refusal(more), "steps = 30, this run has steps = 31");
    let edited = Options { program: "line one\nline 2".into(), ..same.clone() };
    assert_eq!(refusal(edited), "another program (`line two` in line 2), this run has `line 2`");
    let single = run::<f32>(&same, &mut Silent).unwrap_err().to_string();
    assert!(single.contains("precision = f64, this run has precision = f32"), "{single}");
}

#[test]
fn damaged_and_foreign_checkpoints_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { resume: true, ..options(folder.path(), Decay::Linear, 30) };
    run::<f64>(&options, &mut Silent).unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 5]).unwrap();
    let text = run::<f64>(&options, &mut Silent).unwrap_err().to_string();
    assert!(text.contains("not a whole safetensors file"), "{text}");
    std::fs::copy(folder.path().join("solver.safetensors"), &path).unwrap();
    let text = run::<f64>(&options, &mut Silent).unwrap_err().to_string();
    assert!(text.contains("not a checkpoint of a training run"), "{text}");
}

#[test]
fn a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { resume: true, ..options(folder.path(), Decay::Linear, 30) };
    run::<f64>(&options, &mut StopAfter(10)).unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let good = std::fs::read(&path).unwrap();
    let mut poisoned = parameters::<f64>();
    let error =
        train(&mut Quadratic { poison_at: Some(20), ..Quadratic::default() }, &mut poisoned, &options, &mut Silent)
            .unwrap_err();
    assert_eq!(error.to_string(), "the loss of `second` is NaN at step 20; the checkpoint of step 10 is kept");
    assert_eq!(std::fs::read(&path).unwrap(), good);
    let history = std::fs::read_to_string(folder.path().join("history.csv")).unwrap();
    assert!(history.lines().last().unwrap().starts_with("21,,"), "the row of the failing step is there");
    // And the run can go on from there.
    let (_, outcome) = run::<f64>(&options, &mut Silent).unwrap();
    assert_eq!(outcome.resumed_from, Some(10));
    let steps = outcome.history.column("step").unwrap();
    assert!(steps.windows(2).all(|w| w[0] < w[1]), "rows of the failed session are gone");
}

/// A run that dies between two checkpoints repeats the steps since the last one and ends in the same bits.
#[test]
fn a_run_that_dies_goes_on_from_its_last_checkpoint() {
    let [whole, broken] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (expected, unbroken) = run::<f64>(&options(whole.path(), Decay::Cosine, 60), &mut Silent).unwrap();
    let often = Options {
        resume: true,
        checkpoint_every: std::time::Duration::ZERO,
        ..options(broken.path(), Decay::Cosine, 60)
    };
    struct Slow;
    impl Observer for Slow {
        fn progress(&mut self, _: &Progress<'_>) -> Flow {
            std::thread::sleep(std::time::Duration::from_millis(5));
            Flow::Continue
        }
    }
    let error = train(
        &mut Quadratic { poison_at: Some(50), ..Quadratic::default() },
        &mut parameters::<f64>(),
        &often,
        &mut Slow,
    )
    .unwrap_err();
    assert!(matches!(error, Error::Loss { step: 50, checkpoint: Some(1..=50), .. }), "{error}");
    let (found, outcome) = run::<f64>(&often, &mut Silent).unwrap();
    assert!(outcome.resumed_from.is_some());
    assert_eq!(found, expected);
    assert_eq!(timeless(&outcome), timeless(&unbroken));
}

#[test]
fn parameters_that_do_not_fit_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), Decay::Linear, 3);
    let mut negative = parameters::<f64>();
    negative.values_mut()[1][0] = -1.0;
    let text = train(&mut Quadratic::default(), &mut negative, &options, &mut Silent).unwrap_err().to_string();
    assert_eq!(text, "`b` is learned in its logarithm but its value is -1; give it a positive one");
    let mut none = Parameters::<f64>::initial(&Program::default(), 0);
    let text = train(&mut Quadratic::default(), &mut none, &options, &mut Silent).unwrap_err().to_string();
    assert_eq!(text, "the parameters have no `a` of shape []");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_before_the_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = run::<f64>(&options(&file, Decay::Linear, 3), &mut Silent).unwrap_err();
    assert!(matches!(error, Error::Write { .. }));
}

/// Wide weights were kept as [out, in] once: such a checkpoint gives the same numbers.
#[test]
fn checkpoints_of_another_layout_are_turned() {
    use super::adam::Moments;
    use super::checkpoint::{Identity, State, load, save};
    use super::history::History;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let identity = Identity { program: "p".into(), seed: 1, steps: None, precision: "f64".into(), data: None };
    let old: Vec<f64> = (0..6).map(f64::from).collect();
    let moments = Moments { first: vec![old.clone()], second: vec![old.clone()] };
    let state = State { step: 3, seconds: 1.0, history: History::default() };
    save(&path, &identity, &[("w".into(), vec![2, 3])], &state, std::slice::from_ref(&old), &moments).unwrap();
    let mut values = vec![vec![]];
    let (state, moments) = load::<f64>(&path, &identity, (&[("w".into(), vec![3, 2])], &[]), &mut values).unwrap();
    assert_eq!(values, [[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]]);
    assert_eq!((moments.first, state.step), (values, 3));
}

/// The work before a measurement is saved, and what was not measured is measured then: in the middle and at the end.
#[test]
fn a_run_that_dies_while_it_measures_loses_nothing() {
    for steps in [100, 130] {
        let (folder, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dies = options(folder.path(), Decay::Linear, steps);
        let mut dying = Quadratic { dies_at: Some(2), ..Quadratic::default() };
        let error = train(&mut dying, &mut parameters::<f64>(), &dies, &mut Silent).unwrap_err();
        assert!(matches!(&error, Error::Objective { step: 100, .. }), "{error}");
        let resumed = Options { resume: true, ..options(folder.path(), Decay::Linear, steps) };
        let (found, outcome) = run::<f64>(&resumed, &mut Silent).unwrap();
        let (exact, expected) = run::<f64>(&options(whole.path(), Decay::Linear, steps), &mut Silent).unwrap();
        assert_eq!((outcome.resumed_from, &found), (Some(100), &exact));
        assert_eq!(timeless(&outcome), timeless(&expected));
        let written = std::fs::read_to_string(folder.path().join("history.csv")).unwrap();
        assert_eq!(written, outcome.history.to_csv());
    }
}
