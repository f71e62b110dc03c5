//! The probe of a running service, for images that have no shell and no curl.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cimd_cache_service::Address;

use crate::args::Health;
use crate::outcome::{Failed, Outcome, print};

/// How long it waits.
const WITHIN: Duration = Duration::from_secs(2);

/// More than any answer has.
const ANSWER_BYTES: u64 = 4_096;

pub(super) fn health(arguments: &Health) -> Result<Outcome, Failed> {
    let path = if arguments.ready { "/health/ready" } else { "/health/live" };
    let asked = match &arguments.ops {
        Address::Tcp(address) => TcpStream::connect_timeout(address, WITHIN).and_then(|stream| {
            stream.set_read_timeout(Some(WITHIN))?;
            ask(stream, path)
        }),
        Address::Unix(socket) => UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(WITHIN))?;
            ask(stream, path)
        }),
        Address::Systemd(_) => {
            return Err(Failed::usage(
                "name the socket itself, as unix:/path or tcp:IP:PORT: systemd's name of it is not known here",
            ));
        }
    };
    let answer = asked.map_err(|error| {
        Failed::database(format!("the service at {} does not answer: {}", arguments.ops, error.kind()))
    })?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    if answer.starts_with("HTTP/1.1 200 ") {
        print(format!("{body}\n"))?;
        Ok(Outcome::Done)
    } else {
        let body = if body.is_empty() { "not well" } else { body };
        Err(Failed::database(format!("the service at {} is {body}", arguments.ops)))
    }
}

fn ask(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}
