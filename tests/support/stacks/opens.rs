//! Opens a connection in each way, once it is told to, and prints of each a line of JSON: the socket's inode, and the line that
//! opened it.

use std::fs::File;
use std::io::{Read, Write, stdin, stdout};
use std::mem::ManuallyDrop;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::thread;

#[inline(never)]
fn say(way: &str, stream: TcpStream, line: u32) {
    // It stays open.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(stream.as_raw_fd()) });
    let inode = file.metadata().unwrap().ino();
    std::mem::forget(stream);
    println!(r#"{{"way":"{way}","inode":{inode},"line":{line},"callers":[]}}"#);
}

#[inline(never)]
fn guilty_connect(way: &str, place: SocketAddr) {
    let (stream, line) = (TcpStream::connect(place).unwrap(), line!());
    say(way, stream, line);
}

#[inline(never)]
fn guilty_accept(way: &str, listener: &TcpListener) {
    let (accepted, line) = (listener.accept().unwrap(), line!());
    say(way, accepted.0, line);
}

fn main() {
    stdin().read_exact(&mut [0]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    guilty_connect("connect", place);
    guilty_accept("accept", &listener);
    thread::scope(|scope| {
        scope.spawn(|| {
            guilty_connect("connect_in_a_thread", place);
            guilty_accept("accept_in_a_thread", &listener);
        });
    });
    println!("{{}}");
    stdout().flush().unwrap();
    stdin().read_to_end(&mut Vec::new()).unwrap();
}
