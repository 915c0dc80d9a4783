//! Finds who holds a socket whose owner was not seen, and in which cgroup a process is: /proc is read on a thread, and the answers are
//! inputs.

mod proc_reader;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashSet;
use tcpwatch_common::TcpState;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use self::proc_reader::ProcReader;
use super::worker::Worker;
use crate::clock;
use crate::input::owner::{Owner, UnknownOwner};
use crate::input::{Input, Transition};
use crate::sys::cgroup::Hierarchy;

/// Questions that wait for an answer at most; with one more, the answer to all is that nobody knows.
const QUESTIONS: usize = 65_536;

/// The thread that reads /proc: whatever it hangs at, nothing else waits.
pub type ProcThread = Worker<ProcReader>;

/// The thread that reads /proc under `root`, and cgroups in `hierarchy`.
#[must_use]
pub fn proc_thread(root: &Path, hierarchy: Option<Hierarchy>) -> ProcThread {
    let (root, hierarchy) = (root.to_owned(), hierarchy.map(Arc::new));
    Worker::new("proc", ["reading /proc", "owners of sockets and cgroups"], move || {
        ProcReader::new(&root, hierarchy.clone())
    })
}

/// Asks the thread that reads /proc, and takes its answers.
pub struct OwnerResolver {
    thread: Arc<ProcThread>,
    /// The questions of the batch that is being read.
    batch: Vec<Question>,
    /// The processes whose cgroups are asked for in it.
    asked: HashSet<Owner>,
    /// The batches without an answer and their numbers, in the order they were asked: [`QUESTIONS`] in all.
    waiting: VecDeque<(u64, Vec<Question>)>,
    /// How many questions are in them.
    count: usize,
    /// The number of the last batch.
    sent: u64,
    answers: (UnboundedSender<Answer>, UnboundedReceiver<Answer>),
    /// Answers that were waited for, and are not given yet.
    next: Option<Answer>,
}

/// The answer to a batch of questions.
struct Answer {
    /// The number of the batch.
    batch: u64,
    inputs: Vec<Input>,
}

/// What is to be found out.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// Who holds a socket.
    Holder(Lookup),
    /// In which cgroup `owner` was at `unix_ns` (since the Unix epoch).
    Cgroup { owner: Owner, unix_ns: i64 },
}

/// A socket whose holder is looked for.
#[derive(Clone, Copy, Debug)]
struct Lookup {
    inode: NonZeroU32,
    /// Whether it was open before the first scan began, so that its inode number was no other's at any scan.
    was_there: bool,
    /// Whether its connection is over.
    is_closed: bool,
    /// When it was asked for, ns (`CLOCK_MONOTONIC`).
    asked_ns: u64,
}

impl OwnerResolver {
    /// One that asks `thread`.
    #[must_use]
    pub fn new(thread: Arc<ProcThread>) -> Self {
        Self {
            thread,
            batch: Vec::new(),
            asked: HashSet::new(),
            waiting: VecDeque::new(),
            count: 0,
            sent: 0,
            answers: unbounded_channel(),
            next: None,
        }
    }

    /// Asks for the holder of the socket of `event`, if nobody saw whose it is.
    pub fn ask_holder(&mut self, event: &Transition) {
        if let Some(inode) = event.asks_owner() {
            self.batch.push(Question::Holder(Lookup {
                inode,
                was_there: event.opened.is_none() && event.id.is_some(),
                is_closed: event.to == TcpState::Close,
                asked_ns: clock::monotonic_ns(),
            }));
        }
    }

    /// Asks for the holder of the listener `inode`.
    pub fn ask_listener(&mut self, inode: NonZeroU32) {
        self.batch.push(Question::Holder(Lookup {
            inode,
            was_there: false,
            is_closed: false,
            asked_ns: clock::monotonic_ns(),
        }));
    }

    /// Asks for the cgroup of `owner`, who had a connection at `unix_ns`; once a batch.
    pub fn ask_cgroup(&mut self, owner: Owner, unix_ns: i64) {
        if self.asked.insert(owner) {
            self.batch.push(Question::Cgroup { owner, unix_ns });
        }
    }

    /// Sends the questions of a batch, and gives `each` the answers that there are by now. Where /proc cannot be read now, they are that
    /// nothing is known.
    pub fn exchange(&mut self, each: &mut dyn FnMut(Input)) {
        self.send(each);
        while let Some(Answer { batch, inputs }) = self.next.take().or_else(|| self.answers.1.try_recv().ok()) {
            // A thread that panicked answers neither the batch it read nor those behind it.
            self.give_up(|number| number < batch, each);
            if let Some((_, answered)) = self.waiting.pop_front_if(|(number, _)| *number == batch) {
                self.count -= answered.len();
                inputs.into_iter().for_each(&mut *each);
            }
        }
        if !self.waiting.is_empty() && self.thread.is_stuck() {
            self.stop(each);
        }
    }

    fn send(&mut self, each: &mut dyn FnMut(Input)) {
        self.asked.clear();
        if self.batch.is_empty() {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        self.sent += 1;
        let (questions, answers, number) = (batch.clone(), self.answers.0.clone(), self.sent);
        let work = move |reader: &mut ProcReader| {
            let mut inputs = Vec::with_capacity(questions.len());
            for question in questions {
                reader.answer(question, &mut |input| inputs.push(input));
            }
            // Nobody waits any more where this fails.
            let _ = answers.send(Answer { batch: number, inputs });
        };
        if self.count + batch.len() <= QUESTIONS && self.thread.post(work).is_ok() {
            self.count += batch.len();
            self.waiting.push_back((number, batch));
            return;
        }
        // Answers stay in the order of the questions.
        self.stop(each);
        for question in batch {
            each(question.unknown());
        }
    }

    /// Waits for an answer.
    pub async fn answered(&mut self) {
        if self.next.is_none() {
            self.next = self.answers.1.recv().await;
        }
    }

    /// Whether there are questions without an answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Waits for no answer any more: nothing is known of what was asked.
    pub fn stop(&mut self, each: &mut dyn FnMut(Input)) {
        self.give_up(|_| true, each);
    }

    /// Waits no more for the first batches, as long as their numbers are `given_up`.
    fn give_up(&mut self, given_up: impl Fn(u64) -> bool, each: &mut dyn FnMut(Input)) {
        while let Some((_, batch)) = self.waiting.pop_front_if(|(number, _)| given_up(*number)) {
            self.count -= batch.len();
            for question in batch {
                each(question.unknown());
            }
        }
    }
}

impl Question {
    /// The answer where /proc was not read.
    fn unknown(self) -> Input {
        match self {
            Self::Holder(lookup) => Input::Owner {
                inode: lookup.inode,
                owner: Err(UnknownOwner::NotScanned),
            },
            Self::Cgroup { owner, .. } => Input::CgroupPath { owner, cgroup: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::NonZeroU64;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::time::Duration;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;

    /// A transition of the socket 100, which was open before we looked.
    fn of_100() -> Transition {
        Transition {
            id: NonZeroU64::new(1),
            inode: NonZeroU32::new(100),
            ..Transition::between(TcpState::Established, TcpState::CloseWait)
        }
    }

    /// nginx, number 7, which holds the socket 100.
    pub(super) fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let nginx = root.path().join("proc/7");
        fs::create_dir_all(nginx.join("fd")).unwrap();
        symlink("socket:[100]", nginx.join("fd/3")).unwrap();
        fs::write(nginx.join("comm"), "nginx\n").unwrap();
        fs::write(nginx.join("cgroup"), "0::/web\n").unwrap();
        let stat = "7 (nginx) S 1 0 0 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1 0\n";
        fs::write(nginx.join("stat"), stat).unwrap();
        root
    }

    /// Makes reading the cgroup of nginx hang for as long as nobody writes into the pipe returned.
    fn hanging(root: &Path) -> PathBuf {
        let cgroup = root.join("proc/7/cgroup");
        fs::remove_file(&cgroup).unwrap();
        mkfifoat(CWD, &cgroup, Mode::RUSR | Mode::WUSR).unwrap();
        cgroup
    }

    fn resolver(root: &Path, patience: Duration) -> OwnerResolver {
        let root = root.to_owned();
        let thread = Worker::with_patience("proc", ["reading /proc", "owners"], patience, move || {
            ProcReader::new(&root, None)
        });
        OwnerResolver::new(Arc::new(thread))
    }

    /// The answers there are now.
    fn answers(resolver: &mut OwnerResolver) -> Vec<String> {
        let mut answers = Vec::new();
        resolver.exchange(&mut |input| {
            answers.push(match input {
                Input::Owner {
                    inode,
                    owner: Ok(owner),
                } => format!("{inode} {owner}"),
                Input::Owner { inode, owner: Err(why) } => format!("{inode} {}", why.key()),
                Input::CgroupPath { owner, cgroup } => {
                    format!("{owner} {}", cgroup.map_or("?".into(), |cgroup| cgroup.path.clone()))
                }
                other => panic!("{other:?} is no answer"),
            });
        });
        answers
    }

    /// The answers, once there are some.
    fn answered(resolver: &mut OwnerResolver) -> Vec<String> {
        loop {
            let answers = answers(resolver);
            if !answers.is_empty() {
                return answers;
            }
            std::thread::yield_now();
        }
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn questions_are_answered_in_their_order_and_what_is_known_is_not_asked() {
        let root = tree();
        let mut resolver = resolver(root.path(), MINUTE);
        let nginx = crate::input::owner::tests::owner(7, "nginx");
        let known = Transition {
            owner: Some(nginx),
            ..of_100()
        };
        resolver.ask_cgroup(nginx, clock::unix_ns());
        resolver.ask_cgroup(nginx, clock::unix_ns());
        resolver.ask_holder(&known);
        resolver.ask_holder(&of_100());
        assert_eq!(
            answered(&mut resolver),
            ["nginx[7] /web", "nginx[7] /web", "100 nginx[7]"],
            "the cgroup once for the question, once for the holder"
        );
        assert!(!resolver.is_waiting());
    }

    /// Whoever asks never waits, nobody else gets stuck, and when it is over /proc is read again.
    #[test]
    fn a_process_that_hangs_in_proc_is_waited_for_no_longer_than_it_may_take() {
        let root = tree();
        let pipe = hanging(root.path());
        let mut resolver = resolver(root.path(), Duration::from_millis(50));
        resolver.ask_holder(&of_100());
        assert_eq!(answers(&mut resolver), [""; 0], "it may still be read");
        assert_eq!(answered(&mut resolver), ["100 not_scanned_yet"]);
        resolver.ask_holder(&of_100());
        assert_eq!(
            answers(&mut resolver),
            ["100 not_scanned_yet"],
            "at once, and no second thread gets stuck"
        );
        assert!(!resolver.is_waiting());
        fs::write(&pipe, "0::/web\n").unwrap();
        while resolver.thread.is_stuck() {
            std::thread::yield_now();
        }
        resolver.ask_holder(&of_100());
        assert_eq!(
            answered(&mut resolver),
            ["nginx[7] /web", "100 nginx[7]"],
            "what came too late is not an answer"
        );
    }

    /// A thread that dies answers neither the batch that it read nor those in its queue. Its successor answers the later ones.
    #[test]
    fn batches_that_a_dead_thread_took_along_are_unknown() {
        let root = tree();
        let pipe = hanging(root.path());
        let mut resolver = resolver(root.path(), MINUTE);
        for _ in 0..2 {
            resolver.ask_holder(&of_100());
            assert_eq!(answers(&mut resolver), [""; 0]);
        }
        let later = Answer {
            batch: 2,
            inputs: Vec::new(),
        };
        resolver
            .answers
            .0
            .send(later)
            .unwrap_or_else(|_| panic!("nobody takes answers"));
        assert_eq!(answers(&mut resolver), ["100 not_scanned_yet"]);
        assert_eq!((resolver.count, resolver.is_waiting()), (0, false));
        fs::write(&pipe, "").unwrap();
    }

    #[test]
    fn the_end_waits_for_no_answer() {
        let root = tree();
        let pipe = hanging(root.path());
        let mut resolver = resolver(root.path(), MINUTE);
        resolver.ask_holder(&of_100());
        assert_eq!(answers(&mut resolver), [""; 0]);
        let mut unknown = 0;
        resolver.stop(&mut |_| unknown += 1);
        assert_eq!((unknown, resolver.is_waiting()), (1, false));
        fs::write(&pipe, "").unwrap();
    }
}
