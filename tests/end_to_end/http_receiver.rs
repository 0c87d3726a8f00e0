//! The other end of what the gateway posts: a server for requests of one kind, on a port of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Takes requests until the test ends. `answer` is given the head and the body of each, and says its status and the body of the answer.
pub(crate) fn listen<A>(answer: A) -> SocketAddr
where
    A: Fn(String, Vec<u8>) -> (u16, &'static str) + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || serve(connection.expect("a connection"), &*answer));
        }
    });
    address
}

fn serve(mut connection: TcpStream, answer: &impl Fn(String, Vec<u8>) -> (u16, &'static str)) {
    let mut reader = BufReader::new(connection.try_clone().expect("a second handle"));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.expect("a length")];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (status, words) = answer(head, body);
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{words}", words.len());
        if connection.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
