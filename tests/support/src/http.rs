//! A client of HTTP/1.1 that sends what it is given, byte for byte, and keeps its connection.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

use crate::json_of;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection of a client.
pub struct Client(BufReader<Box<dyn Stream>>);

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Client {
    /// Speaks over a connection that is open.
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(BufReader::new(Box::new(stream)))
    }

    /// A call with a method and path, and a JSON body if there is one.
    pub async fn call(&mut self, request: &str, body: Option<&str>) -> Answer {
        self.try_call(request, body).await.unwrap()
    }

    /// The same, if there is an answer.
    ///
    /// # Errors
    ///
    /// When the connection ends before.
    pub async fn try_call(&mut self, request: &str, body: Option<&str>) -> io::Result<Answer> {
        let body = match body {
            Some(body) => {
                format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            None => "Content-Length: 0\r\n\r\n".to_owned(),
        };
        self.try_send(&format!("{request} HTTP/1.1\r\nHost: localhost\r\n{body}")).await
    }

    /// Sends a request as it is, and reads the answer.
    pub async fn send(&mut self, request: &str) -> Answer {
        self.try_send(request).await.unwrap()
    }

    /// The same, if there is an answer.
    ///
    /// # Errors
    ///
    /// When the connection ends before.
    pub async fn try_send(&mut self, request: &str) -> io::Result<Answer> {
        // The service may refuse a request, and close, before all of it is written.
        let _ = self.0.write_all(request.as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").unwrap().1.parse().unwrap();
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok(Answer { status, headers, body: String::from_utf8(body).unwrap() })
    }
}

impl Answer {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The body of a call that was answered.
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        json_of(&self.body)
    }

    /// The status and code of a problem.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = json_of(&self.body);
        assert_eq!(problem["status"], self.status);
        let code = problem["code"].as_str().unwrap();
        assert_eq!(problem["type"], format!("urn:cimd-cache:problem:{code}"));
        (self.status, code.to_owned())
    }
}

/// Every byte but letters and digits, percent-encoded.
pub fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}
