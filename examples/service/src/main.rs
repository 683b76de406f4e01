//! One solver for many clients, over HTTP.
//!
//!     cargo run --release -- u.solver 127.0.0.1:8080
//!     curl -s localhost:8080/eval -d '{"points": [[0.5, 0.1]]}' -H 'content-type: application/json'
//!     cargo run --release -- u.solver --load      serves itself, and measures
//!
//! `GET /` describes the solver. `POST /eval` takes points and gives values; points outside of the domain are refused, or flagged
//! with `"flagged": true`.

mod load;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jetc::ndarray::{Array2, Axis};
use jetc::{Error, Place, Solver};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

type Shared = Arc<Solver<f64>>;

#[derive(Deserialize)]
struct Question {
    points: Vec<Vec<f64>>,
    #[serde(default)]
    flagged: bool,
}

#[derive(Serialize)]
struct Answer {
    values: Vec<Vec<f64>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inside: Vec<bool>,
}

type Refusal = (StatusCode, Json<Value>);

fn refuse(status: StatusCode, why: impl std::fmt::Display) -> Refusal {
    (status, Json(json!({ "error": why.to_string() })))
}

async fn describe(State(solver): State<Shared>) -> Json<Value> {
    Json(json!({ "inputs": solver.inputs(), "results": solver.quantities(), "program": solver.program() }))
}

async fn eval(State(solver): State<Shared>, Json(question): Json<Question>) -> Result<Json<Answer>, Refusal> {
    let columns = solver.operator().columns();
    if let Some(k) = question.points.iter().position(|p| p.len() != columns) {
        return Err(refuse(StatusCode::BAD_REQUEST, format!("point {k} has not {columns} coordinates")));
    }
    let count = question.points.len();
    let points = Array2::from_shape_vec((count, columns), question.points.concat())
        .map_err(|e| refuse(StatusCode::BAD_REQUEST, e))?;
    // evaluation is work for a CPU, and must not keep the threads that serve the network
    let answer = tokio::task::spawn_blocking(move || match question.flagged {
        true => solver.eval_flagged(points.view()),
        false => solver.eval(points.view()).map(|values| (values, Vec::new())),
    });
    match answer.await {
        Ok(Ok((values, places))) => Ok(Json(Answer {
            values: values.axis_iter(Axis(0)).map(|row| row.to_vec()).collect(),
            inside: places.iter().map(|p| *p == Place::Inside).collect(),
        })),
        Ok(Err(e @ (Error::Outside { .. } | Error::NotFinite { .. }))) => {
            Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, e))
        }
        Ok(Err(e)) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, e)),
        Err(e) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, e)),
    }
}

fn router(solver: Shared) -> Router {
    Router::new().route("/", get(describe)).route("/eval", post(eval)).with_state(solver)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("give an artifact: u.solver")?;
    let solver: Shared = Arc::new(Solver::load(path)?);
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let under_load = address == "--load";
    let listener = tokio::net::TcpListener::bind(if under_load { "127.0.0.1:0" } else { &address }).await?;
    let address = listener.local_addr()?;
    let server = axum::serve(listener, router(solver.clone()));
    if under_load {
        tokio::spawn(async move { server.await });
        return load::run(address, &solver).await;
    }
    println!("listening on http://{address}");
    Ok(server.await?)
}
