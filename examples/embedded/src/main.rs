//! One binary with a solver in it: no file is read, and the names of the `.jet` file are fields of structs.

mod heat {
    include!(concat!(env!("OUT_DIR"), "/heat.rs"));
}

use heat::{Heat, Input};

fn main() -> Result<(), jetc::Error> {
    let bar = Heat::new()?;
    println!("{} bytes of program and weights", Heat::ARTIFACT.len());
    let mut worst = 0.0f64;
    for t in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let row: Vec<Input> = (0..=4).map(|k| Input { x: f64::from(k) / 4.0, t }).collect();
        for (input, output) in row.iter().zip(bar.eval(&row)?) {
            let exact = (-0.1 * std::f64::consts::PI.powi(2) * t).exp() * (std::f64::consts::PI * input.x).sin();
            worst = worst.max((output.u - exact).abs());
        }
        println!("t = {t:4}: the middle is at {:.4}", bar.at(Input { x: 0.5, t })?.u);
    }
    println!("at most {worst:.1e} from the exact solution");
    assert!(bar.at(Input { x: 0.5, t: 2.0 }).is_err(), "t = 2 is outside of the domain");
    if worst > 1e-2 { Err(jetc::Error::Unsupported(format!("the solution is off by {worst}"))) } else { Ok(()) }
}
