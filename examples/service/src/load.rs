//! Many clients at once, each with a connection of its own; every answer is compared with the solver's.

use jetc::Solver;
use jetc::ndarray::Array2;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const CLIENTS: usize = 16;
const REQUESTS: usize = 100;
const POINTS: usize = 32;

/// Asks, compares, and says how long it took.
pub async fn run(address: SocketAddr, solver: &Solver<f64>) -> Result<(), Box<dyn std::error::Error>> {
    let started = Instant::now();
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        // points of the unit cube: the example's domain
        let columns = solver.operator().columns();
        let points = Array2::from_shape_fn((POINTS, columns), |(p, c)| ((number + 7 * p + 3 * c) % 17) as f64 / 17.0);
        let expected = solver.eval(points.view())?;
        clients.push(tokio::spawn(client(address, points, expected)));
    }
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await?.map_err(|e| e.to_string())?);
    }
    let seconds = started.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| 1e3 * times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{} requests of {POINTS} points from {CLIENTS} clients: {:.0} per second; milliseconds: median {:.2}, 99 % {:.2}, most {:.2}",
        times.len(),
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let mut refused = BufReader::new(TcpStream::connect(address).await?);
    let outside = vec![vec![1e9; solver.operator().columns()]];
    let (status, body) = post(&mut refused, &json!({ "points": outside })).await.map_err(|e| e.to_string())?;
    assert_eq!(status, 422, "{body}");
    println!("and a point outside of the domain is refused: {}", body["error"]);
    Ok(())
}

async fn client(address: SocketAddr, points: Array2<f64>, expected: Array2<f64>) -> Result<Vec<f64>, Failure> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let rows: Vec<Vec<f64>> = points.outer_iter().map(|p| p.to_vec()).collect();
    let question = json!({ "points": rows });
    let mut times = Vec::new();
    for _ in 0..REQUESTS {
        let started = Instant::now();
        let (status, body) = post(&mut stream, &question).await?;
        times.push(started.elapsed().as_secs_f64());
        let values: Vec<Vec<f64>> = serde_json::from_value(body["values"].clone())?;
        if status != 200 || values.concat() != expected.iter().copied().collect::<Vec<f64>>() {
            return Err(format!("another answer than the solver's: {body}").into());
        }
    }
    Ok(times)
}

/// One request on a connection that stays open: status and body.
async fn post(stream: &mut BufReader<TcpStream>, question: &Value) -> Result<(u16, Value), Failure> {
    let body = question.to_string();
    let head = format!(
        "POST /eval HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all((head + &body).as_bytes()).await?;
    let (mut status, mut length) = (0, 0);
    for number in 0.. {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if number == 0 {
            status = line.split(' ').nth(1).unwrap_or_default().parse()?;
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        } else if line.trim().is_empty() {
            break;
        }
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok((status, serde_json::from_slice(&bytes)?))
}
