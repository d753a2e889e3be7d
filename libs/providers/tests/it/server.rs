//! A server that answers a script, one entry a request, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a request, after it has read it whole.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers.
    Say(u16, &'static str, String),
    /// Closes the connection.
    HangUp,
    /// Closes the connection and stops listening.
    Vanish,
    /// Never answers.
    Silence,
}

pub fn say(status: u16, body: impl Into<String>) -> Reply {
    Reply::Say(status, "", body.into())
}

#[derive(Clone)]
pub struct Server {
    pub base: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the script; its last entry for ever.
    pub async fn start(script: impl Into<VecDeque<Reply>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Server {
            base,
            asked: Arc::default(),
        };
        let (asked, mut script) = (server.asked.clone(), script.into());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let reply = if script.len() > 1 {
                    script.pop_front()
                } else {
                    script.front().cloned()
                };
                let request = read(&mut stream).await;
                asked.lock().expect("no panic").push(request);
                match reply.expect("a script") {
                    Reply::Say(status, headers, body) => {
                        let answer = format!(
                            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
                            body.len()
                        );
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                    Reply::HangUp => drop(stream),
                    Reply::Vanish => return,
                    Reply::Silence => {
                        tokio::spawn(async move {
                            let _ = stream.read(&mut [0; 1]).await;
                        });
                    }
                }
            }
        });
        server
    }

    /// The requests so far, as they came over the wire.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}
