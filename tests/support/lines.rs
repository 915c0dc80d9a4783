//! What a child prints, read as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::SystemTime;

use serde_json::Value;

use super::clock::{eventually, wall};

/// One line of JSON and when it came.
#[derive(Clone)]
pub(crate) struct Line {
    /// When this process had read it.
    pub(crate) arrived: SystemTime,
    /// What it says.
    pub(crate) json: Value,
}

#[derive(Default)]
struct Gathered {
    lines: Vec<Line>,
    ended: bool,
    odd: Option<String>,
}

/// The lines of JSON a child printed so far, gathered by a thread.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Gathered>>);

impl Lines {
    /// Reads `pipe` until it ends. A line that is not JSON is kept as odd, blank ones are passed over.
    pub(crate) fn of(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let gathered = lines.clone();
        thread::spawn(move || {
            for text in BufReader::new(pipe).lines().map_while(Result::ok) {
                let arrived = wall();
                match serde_json::from_str(&text) {
                    Ok(json) => gathered.lock().lines.push(Line { arrived, json }),
                    Err(_) if text.is_empty() => {}
                    Err(_) => gathered.lock().odd = Some(text),
                }
            }
            gathered.lock().ended = true;
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the lines so far.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&[Line]) -> T) -> T {
        look(&self.lock().lines)
    }

    /// How many came so far.
    pub(crate) fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Whether the pipe has ended, or has a line that is not JSON.
    pub(crate) fn has_ended(&self) -> bool {
        let gathered = self.lock();
        gathered.ended || gathered.odd.is_some()
    }

    /// Waits for the pipe's end and gives everything; a line that is no JSON fails the test.
    pub(crate) fn all(&self) -> Vec<Line> {
        eventually("the end of a child's output", || {
            if self.lock().ended { Ok(()) } else { Err("it is open") }
        });
        let read = self.lock();
        assert_eq!(read.odd, None, "a line that is not JSON");
        read.lines.clone()
    }
}
