//! A minimal HTTP client for servers on this machine.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns an address on this machine on which nothing listens.
#[must_use]
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.expect("the loopback interface has a free port")
}

/// Returns the body of the response to a GET request.
///
/// # Errors
///
/// A message: no connection, or a status other than 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String, String> {
    request("GET", address, path, "\r\n")
}

/// Returns the body of the response to a POST request with a body of JSON.
///
/// # Errors
///
/// As [`get`].
pub fn post_json(address: SocketAddr, path: &str, body: &str) -> Result<String, String> {
    let length = body.len();
    request(
        "POST",
        address,
        path,
        &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"),
    )
}

/// Sends a request that ends with the rest of its head and its body.
fn request(method: &str, address: SocketAddr, path: &str, rest: &str) -> Result<String, String> {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // The response to an HTTP/1.0 request ends with the connection.
        write!(stream, "{method} {path} HTTP/1.0\r\nHost: {address}\r\n{rest}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = exchange().map_err(|error| format!("{method} http://{address}{path} failed: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("http://{address}{path} returned {answer}")),
    }
}
