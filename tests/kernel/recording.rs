//! A recording shows again what the run showed, byte for byte, to a user without privileges.

use socket2::Socket;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use arrow_array::{Array as _, ArrayRef, make_array};
use arrow_ipc::reader::StreamReader;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::Signal;

use serde_json::Value;
use tcpwatch::input::Input;
use tcpwatch::record::Recording;

use crate::support::child::Reaped;
use crate::support::clock::{pass, until};
use crate::support::leaking_server::Leaking;
use crate::support::netns::{Netns, in_netns};
use crate::support::output::Text;
use crate::support::program::run::{binary, finish, setpriv, tcpwatch};
use crate::support::sockets::{listen, pair};
use crate::support::web::{Nginx, request, request_slowly};
use crate::support::workload::bulk;
use crate::support::{LOOPBACK, endings, heavy};

/// The user and the group nobody.
const NOBODY: u32 = 65534;

/// Every command that watches, with intervals of which some end while [`SECONDS`] pass.
const COMMANDS: [&[&str]; 8] = [
    &["stat", "0.5"],
    &["trace"],
    &["life"],
    &["churn", "0.5"],
    &["churn", "0.5", "--by", "container"],
    &["latency", "0.5", "--by", "pod"],
    &["leaks", "--watch", "0.5", "--older", "0.2", "--stacks"],
    &["leaks", "--older", "0.01"],
];

/// How long each runs.
const SECONDS: &str = "1.5";

const FORMS: [&str; 3] = ["text", "json", "csv"];

/// A run that is recorded while it is shown in a file.
struct Run {
    process: Reaped,
    form: &'static str,
}

impl Run {
    fn start(place: &Path, args: &[&str], form: &'static str) -> Self {
        let record = place.join(form);
        let record = record.to_str().expect("UTF-8");
        let mut command = tcpwatch(&[args, &["-o", form, "--record", record]].concat());
        let live = File::create(place.join(format!("{form}.live"))).expect("a file");
        let command = command.stdin(Stdio::null()).stdout(live).stderr(Stdio::piped());
        Self {
            process: Reaped::spawn(command),
            form,
        }
    }

    fn has_ended(&mut self) -> bool {
        self.process.0.try_wait().expect("waiting for a child").is_some()
    }

    /// Waits for its end; returns what it showed, which nobody is shown by its recording too.
    fn shown(mut self, place: &Path) -> String {
        let status = self.process.wait();
        let stderr = Text::of(self.process.0.stderr.take().expect("piped")).all();
        assert!(status.success(), "{stderr}");
        let live = fs::read_to_string(place.join(format!("{}.live", self.form))).expect("what it showed");
        let replayed = replayed(&place.join(self.form), &[]);
        assert!(live == replayed, "{}: {live}\nreplayed: {replayed}", self.form);
        live
    }
}

/// What nobody is shown of the recording `dir` by these arguments.
fn replayed(dir: &Path, args: &[&str]) -> String {
    give_to_nobody(dir);
    let dir = dir.to_str().expect("UTF-8");
    let finished = finish(&as_nobody(&[&["replay", dir], args].concat()));
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{args:?}");
    finished.stdout
}

fn as_nobody(args: &[&str]) -> Command {
    let user = NOBODY.to_string();
    setpriv(&["--reuid", &user, "--regid", &user, "--clear-groups"], &binary(), args)
}

fn give_to_nobody(dir: &Path) {
    chown(dir, Some(NOBODY), Some(NOBODY)).expect("a recording");
    for file in fs::read_dir(dir).expect("a recording") {
        chown(file.expect("a file").path(), Some(NOBODY), Some(NOBODY)).expect("a file");
    }
}

/// Runs each command in all forms while `work` goes on, with `more` arguments, and compares what it shows live and by its recording.
/// `is_right` is asked about the JSON of each.
fn each_command(more: &[&str], mut work: impl FnMut(), is_right: impl Fn(&[&str], &str) -> bool) {
    for args in COMMANDS {
        let is_once = args[0] == "leaks" && !args.contains(&"--watch");
        let time: &[&str] = if is_once { &[] } else { &["-d", SECONDS] };
        let args = [args, time, more].concat();
        let is_shown = (0..5).any(|_| {
            let place = tempfile::tempdir().expect("a temporary directory");
            // It may be passed through.
            chown(place.path(), Some(NOBODY), Some(NOBODY)).expect("a directory of ours");
            let mut runs = FORMS.map(|form| Run::start(place.path(), &args, form));
            while !runs.iter_mut().all(Run::has_ended) {
                work();
            }
            let [_, json, _] = runs.map(|run| run.shown(place.path()));
            is_right(&args, &json)
        });
        assert!(is_shown, "{args:?} never showed what it should");
    }
}

/// Whether connections are in what was shown.
fn has_rows(args: &[&str], json: &str) -> bool {
    let lines = json
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let sum = |pointer: &str| -> u64 {
        let numbers = lines.clone().filter_map(|line| line.pointer(pointer)?.as_u64());
        numbers.sum()
    };
    match args[0] {
        "stat" => sum("/events/seen") > 0,
        "trace" | "life" => sum("/printed") > 0,
        "churn" => sum("/time_wait/entered") > 0,
        "latency" => sum("/count") > 0,
        // There need be none that is stuck.
        _ => json.lines().count() >= 1,
    }
}

#[test]
fn of_nginx_without_keep_alive() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let _nginx = Nginx::start();
        // Each of them is shown six times, which takes a debug build longer than nginx.
        each_command(&[], request_slowly, has_rows);
    });
}

#[test]
fn of_every_kind_of_ending() {
    in_netns(|netns| each_command(&[], || every_ending(netns), has_rows));
}

#[test]
fn of_a_program_that_leaks() {
    in_netns(|_| {
        let server = Leaking::start("error_path.c", 9000, &[]);
        let visits = || {
            // Few at a time: it forgets them all, and has a thousand descriptors.
            (0..3).for_each(|_| server.visit("x"));
            pass(Duration::from_millis(100));
        };
        each_command(&[], visits, |args, json| {
            let has_stacks = !args.contains(&"--stacks") || json.contains("\"function\":\"");
            args[0] != "leaks" || has_stacks && json.contains("close_wait")
        });
    });
}

#[test]
fn of_all_network_namespaces() {
    in_netns(|netns| each_command(&["--netns", "all"], || every_ending(netns), has_rows));
}

#[test]
fn with_lost_records() {
    let _turn = heavy::turn();
    in_netns(|_| {
        let _nginx = Nginx::start();
        each_command(
            &["--ring-size", "4K"],
            || drop(request(1)),
            |args, json| {
                let end = json.lines().last().unwrap_or_default();
                !["trace", "life"].contains(&args[0]) || !end.contains("\"lost\":0")
            },
        );
    });
}

/// Every kind of ending that no timeout makes.
fn every_ending(netns: &Netns) {
    for kind in endings::quick() {
        kind.run(netns);
    }
}

/// By a command that needs a part of what was recorded, and by one that needs more.
#[test]
fn by_another_command() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        chown(place.path(), Some(NOBODY), Some(NOBODY)).expect("a directory of ours");
        let run = Run::start(place.path(), &["churn", "0.25", "-d", SECONDS], "json");
        bulk::connections(20);
        run.shown(place.path());
        let dir = place.path().join("json");
        let rows = replayed(&dir, &["stat", "0.25", "-o", "json"]);
        assert!(rows.contains("tcpwatch.stat/"), "{rows}");
        // Of intervals that are shown as one the transitions are those of both.
        let seen = |rows: &str| -> i64 {
            let rows = rows
                .lines()
                .map(|row| serde_json::from_str::<Value>(row).expect("JSON"));
            rows.map(|row| row["events"]["seen"].as_i64().expect("a number")).sum()
        };
        let wide = replayed(&dir, &["stat", "1", "-o", "json"]);
        assert_eq!(seen(&wide), seen(&rows));
        assert!(wide.lines().count() < rows.lines().count(), "{wide}");
        let dir = dir.to_str().expect("UTF-8");
        for args in [
            &["trace"][..],
            &["latency"],
            &["stat", "0.7"],
            &["churn", "0.25", "-4"],
            &["snapshot"],
            &["nonsense"],
        ] {
            let finished = finish(&as_nobody(&[&["replay", dir], args].concat()));
            assert_eq!(finished.stderr.lines().count(), 1, "{args:?}: {}", finished.stderr);
            assert!(finished.code != Some(0) && finished.stdout.is_empty(), "{args:?}");
        }
    });
}

/// A filter selects the same rows of a recording of all connections as it selects live.
#[test]
fn by_other_options() {
    const PORT: u16 = 8090;
    let select = ["--port", "8090", "-o", "csv"];
    in_netns(|netns| {
        // So that no port comes twice.
        netns.set("ipv4/tcp_tw_reuse", "0");
        let place = tempfile::tempdir().expect("a temporary directory");
        chown(place.path(), Some(NOBODY), Some(NOBODY)).expect("a directory of ours");
        for command in ["trace", "life"] {
            let of_some = place.path().join(command);
            fs::create_dir(&of_some).expect("a directory");
            chown(&of_some, Some(NOBODY), Some(NOBODY)).expect("a directory of ours");
            let listener = listen(SocketAddr::new(LOOPBACK, PORT), 128);
            let all = Run::start(&of_some, &[command], "json");
            let some = Run::start(&of_some, &[&[command], &select[..2]].concat(), "csv");
            let work = |listener: &Socket| {
                bulk::connections(4);
                drop(pair(listener));
            };
            let shows = |form: &str| {
                let live = fs::metadata(of_some.join(form).with_extension("live"));
                live.is_ok_and(|live| live.len() > 1000)
            };
            until("both to show rows", || {
                work(&listener);
                shows("json") && shows("csv")
            });
            // A listener that both have seen from its start: neither has to find its owner in /proc first.
            drop(listener);
            let listener = listen(SocketAddr::new(LOOPBACK, PORT), 128);
            (0..60).for_each(|_| work(&listener));
            all.process.signal(Signal::INT);
            some.process.signal(Signal::INT);
            all.shown(&of_some);
            let live = some.shown(&of_some);
            let replayed = replayed(&of_some.join("json"), &[&[command], &select[..]].concat());
            // Each run has its own times and numbers, and one began or ended sooner.
            let rows = |text: &str| -> Vec<Vec<String>> {
                let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
                let names = lines.next().expect("a header");
                let compared = ["local", "lport", "remote", "rport", "from", "to", "pid", "ended"];
                let is_compared = |column: &usize| compared.contains(&names[*column]);
                let columns: Vec<usize> = (0..names.len()).filter(is_compared).collect();
                let cells = lines.map(|cells| columns.iter().map(|&column| cells[column].to_owned()).collect());
                cells.collect()
            };
            let (live, replayed) = (rows(&live), rows(&replayed));
            // A connect that has no port yet is the same row as every other one.
            let is_once =
                |rows: &[Vec<String>], row: &Vec<String>| rows.iter().filter(|other| *other == row).count() == 1;
            let in_both = |row: &&Vec<String>| is_once(&live, row) && is_once(&replayed, row);
            // By then both have seen the second listener.
            let first = live[live.len() / 2..].iter().find(in_both).expect("the runs overlap");
            let last = live.iter().rfind(in_both).expect("the runs overlap");
            let between = |rows: &[Vec<String>]| -> Vec<Vec<String>> {
                let from = rows.iter().position(|row| row == first).expect("the row is in both");
                let to = rows.iter().position(|row| row == last).expect("the row is in both");
                rows[from..=to].to_vec()
            };
            assert!(between(&live).len() > 20, "{command}");
            let mut both = between(&live).into_iter().zip(between(&replayed));
            let other = both.find(|(live, replayed)| live != replayed);
            assert_eq!(other, None, "{command}");
            assert_eq!(between(&live).len(), between(&replayed).len(), "{command}");
        }
    });
}

/// What a killed run recorded until a second before is shown, and then that it was cut off.
#[test]
fn a_killed_run_keeps_all_but_its_last_second() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        chown(place.path(), Some(NOBODY), Some(NOBODY)).expect("a directory of ours");
        let mut run = Run::start(place.path(), &["trace"], "json");
        let live = place.path().join("json.live");
        until("the trace to begin", || {
            bulk::connections(1);
            fs::metadata(&live).is_ok_and(|live| live.len() > 0)
        });
        bulk::connections(50);
        let index = place.path().join("json").join("index");
        let length = || fs::metadata(&index).expect("an index").len();
        // What was made before is in a piece that ends later.
        let (before, mut pieces) = (length(), 0);
        let mut last = before;
        until("two more pieces", || {
            let now = length();
            pieces += usize::from(now > last);
            last = now;
            pieces >= 2
        });
        let shown = fs::read_to_string(&live).expect("what it showed").lines().count();
        run.process.signal(Signal::KILL);
        let _ = run.process.wait();
        let dir = place.path().join("json");
        give_to_nobody(&dir);
        let finished = finish(&as_nobody(&["replay", dir.to_str().expect("UTF-8")]));
        assert_eq!(finished.code, Some(1), "{}", finished.stderr);
        assert!(
            finished.stderr.ends_with("was cut off: it has no end\n"),
            "{}",
            finished.stderr
        );
        let replayed = finished.stdout.lines().count();
        assert!(replayed >= 50 * 4 && replayed <= shown + 1000, "{replayed} of {shown}");
        let live = fs::read_to_string(&live).expect("what it showed");
        assert!(
            live.starts_with(&finished.stdout),
            "what was shown before is shown again"
        );
    });
}

/// A recording for which there is no room ends the run, and what was written before is whole.
#[test]
fn a_full_disk_ends_the_run_and_keeps_the_recording() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        mount("none", place.path(), "tmpfs", MountFlags::empty(), Some(c"size=1m")).expect("a small disk");
        let record = place.path().join("recording");
        let record = record.to_str().expect("UTF-8");
        let mut trace = Reaped::spawn(
            tcpwatch(&["trace", "--record", record])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped()),
        );
        let mut ended = None;
        until("the disk to be full", || {
            // A second of them has room.
            bulk::connections(50);
            pass(Duration::from_millis(20));
            ended = trace.0.try_wait().expect("waiting for a child");
            ended.is_some()
        });
        let stderr = Text::of(trace.0.stderr.take().expect("piped")).all();
        assert_eq!(ended.and_then(|status| status.code()), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains("cannot record to") && stderr.contains("No space left"),
            "{stderr}"
        );
        let finished = finish(&tcpwatch(&["replay", record]));
        assert!(finished.stdout.lines().count() > 1000, "{}", finished.stderr);
        assert!(
            finished.stderr.contains("was cut off") || finished.stderr.contains("damaged"),
            "{}",
            finished.stderr
        );
        unmount(place.path(), UnmountFlags::empty()).expect("nobody uses it");
    });
}

/// The port of a program that filters exclude: no client has it, and no other number of a run is likely to be the same.
const EXCLUDED: u16 = 64_813;

/// Two programs that leak, one of them excluded by filters, with connections from before any run.
fn one_wanted_of_two() -> [Leaking; 2] {
    let wanted = Leaking::start("error_path.c", 9000, &[]);
    let excluded = Leaking::start("error_path.py", EXCLUDED, &[]);
    for server in [&wanted, &excluded] {
        (0..3).for_each(|_| server.visit("x"));
    }
    [wanted, excluded]
}

/// The inputs of the recording `dir`, which must be whole.
fn text(dir: &Path) -> String {
    let (inputs, why) = read(dir);
    assert_eq!(why, None, "{}", dir.display());
    format!("{inputs:?}")
}

/// Whether a number in `text` is `port`.
fn has_port(text: &str, port: u16) -> bool {
    let port = port.to_string();
    text.split(|at: char| !at.is_ascii_alphanumeric())
        .any(|word| word == port)
}

/// Whether `text` names the process `pid`.
fn has_pid(text: &str, pid: u32) -> bool {
    text.contains(&format!("pid: Some({pid})"))
}

/// Whether `name` is anywhere in the unpacked columns of the recording `dir`.
fn has_bytes(dir: &Path, name: &str) -> bool {
    let paths = fs::read_dir(dir)
        .expect("a recording")
        .map(|file| file.expect("a file").path());
    let mut tables = paths.filter(|path| path.extension().is_some_and(|ending| ending == "arrows"));
    tables.any(|path| {
        let file = File::open(path).expect("a table");
        let batches = StreamReader::try_new(file, None).expect("an Arrow stream");
        let mut columns = batches.flat_map(|batch| batch.expect("a batch").columns().to_vec());
        columns.any(|column| column_has_bytes(&column, name.as_bytes()))
    })
}

fn column_has_bytes(column: &ArrayRef, name: &[u8]) -> bool {
    let data = column.to_data();
    let has = |bytes: &[u8]| bytes.windows(name.len()).any(|there| there == name);
    let mut columns = data.child_data().iter().map(|child| make_array(child.clone()));
    data.buffers().iter().any(|buffer| has(buffer)) || columns.any(|column| column_has_bytes(&column, name))
}

/// A recording of a run with a filter on owners has nothing of the connections of others, and shows what the run showed.
#[test]
fn of_some_owners_has_nothing_of_the_others() {
    in_netns(|_| {
        let [wanted, excluded] = one_wanted_of_two();
        let pid = wanted.pid().to_string();
        let comm = wanted.comm();
        let leaks = ["leaks", "--watch", "0.5", "--older", "0.2", "--stacks"];
        for command in [
            &["trace"][..],
            &["life"],
            &["churn", "0.5"],
            &["latency", "0.5", "--by", "lport"],
            &leaks,
        ] {
            for filter in [["--comm", &comm], ["--pid", &pid]] {
                let place = tempfile::tempdir().expect("a temporary directory");
                chown(place.path(), Some(NOBODY), Some(NOBODY)).expect("a directory of ours");
                let args = [command, &filter, &["-d", "2.5"]].concat();
                let mut run = Run::start(place.path(), &args, "json");
                while !run.has_ended() {
                    // What opens during the run ends during it too.
                    for server in [&wanted, &excluded] {
                        server.visit("x");
                        server.visit("");
                    }
                    pass(Duration::from_millis(50));
                }
                let shown = run.shown(place.path());
                let dir = place.path().join("json");
                let text = text(&dir);
                assert!(
                    has_port(&text, 9000) && has_pid(&text, wanted.pid()),
                    "{args:?}: {shown}"
                );
                assert!(has_bytes(&dir, &comm), "{args:?}: {shown}");
                assert!(!has_port(&text, EXCLUDED), "{args:?}: the port of the other");
                assert!(!has_pid(&text, excluded.pid()), "{args:?}: the PID of the other");
                assert!(!has_bytes(&dir, &excluded.comm()), "{args:?}: the name of the other");
            }
        }
    });
}

/// The same by port, of a recording of all that commands need.
#[test]
fn of_some_ports_has_nothing_of_the_others() {
    in_netns(|_| {
        let [wanted, excluded] = one_wanted_of_two();
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        let path = dir.to_str().expect("UTF-8");
        let record = [
            "record", "-w", path, "--port", "9000", "--older", "0.2", "--stacks", "-d", "2.5",
        ];
        let mut run = Reaped::spawn(tcpwatch(&record).stdin(Stdio::null()).stderr(Stdio::null()));
        while run.0.try_wait().expect("waiting for a child").is_none() {
            for server in [&wanted, &excluded] {
                server.visit("x");
            }
            pass(Duration::from_millis(50));
        }
        let text = text(&dir);
        assert!(has_port(&text, 9000) && has_pid(&text, wanted.pid()));
        assert!(!has_port(&text, EXCLUDED) && !has_pid(&text, excluded.pid()));
        assert!(has_bytes(&dir, &wanted.comm()) && !has_bytes(&dir, &excluded.comm()));
    });
}

/// Records a few connections to `dir`, by `record`.
fn record_few(dir: &Path) {
    let record = ["record", "-w", dir.to_str().expect("UTF-8"), "-d", "3"];
    let mut run = Reaped::spawn(tcpwatch(&record).stdin(Stdio::null()).stderr(Stdio::null()));
    while run.0.try_wait().expect("waiting for a child").is_none() {
        // Few, for it is read more than a thousand times.
        bulk::connections(4);
        pass(Duration::from_millis(100));
    }
}

/// A line of an index with the checksum that it has to have.
fn with_checksum(json: &str) -> String {
    format!("{:08x} {json}", crc32fast::hash(json.as_bytes()))
}

/// The lines of `index` with the checksums that its batches have in `table`, which has other `bytes`.
fn with_checksums(index: &str, table: &str, bytes: &[u8]) -> String {
    let mut lines = Vec::new();
    for line in index.lines() {
        let mut json: Value = serde_json::from_str(&line[9..]).expect("JSON");
        let batches = json.pointer_mut("/piece/batches").and_then(Value::as_array_mut);
        for batch in batches.into_iter().flatten() {
            if batch["table"] == table {
                let at = |name: &str| usize::try_from(batch[name].as_u64().expect("a number")).expect("64 bits");
                let (offset, length) = (at("offset"), at("length"));
                batch["crc"] = crc32fast::hash(&bytes[offset..offset + length]).into();
            }
        }
        lines.push(with_checksum(&json.to_string()));
    }
    lines.join("\n") + "\n"
}

/// A recording that was changed, and has the checksums of what it was changed to, is read or refused in one line, in little memory.
#[test]
fn a_crafted_recording_does_no_harm() {
    const CHANGES: u64 = 1000;
    const KIB: u32 = 1 << 20;
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        record_few(&dir);
        let index = fs::read_to_string(dir.join("index")).expect("an index");
        let paths = fs::read_dir(&dir)
            .expect("a recording")
            .map(|file| file.expect("a file").path());
        let mut paths: Vec<PathBuf> = paths.filter(|path| !path.ends_with("index")).collect();
        paths.sort();
        let mut random = 7_u64;
        let mut next = |most: u64| {
            // xorshift64 (Marsaglia, 2003).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 8) % most
        };
        let (mut whole_count, mut refused) = (0, 0);
        for change in 0..CHANGES {
            let path = &paths[usize::try_from(next(paths.len() as u64)).expect("64 bits")];
            let whole = fs::read(path).expect("a table");
            let mut bytes = whole.clone();
            for _ in 0..=next(3) {
                let at = usize::try_from(next(bytes.len() as u64)).expect("64 bits");
                let value = [next(256), u64::MAX, i64::MAX.cast_unsigned(), next(1 << 30)];
                let value = value[usize::try_from(next(4)).expect("64 bits")].to_le_bytes();
                let length = usize::try_from(1 << next(4)).expect("64 bits");
                bytes
                    .iter_mut()
                    .skip(at)
                    .take(length)
                    .zip(value)
                    .for_each(|(to, from)| *to = from);
            }
            let table = path.file_stem().and_then(|name| name.to_str()).expect("a name");
            // The key of a table in the index is that of its kind.
            let key = match table {
                "ledger" => "ledgers",
                "latency" => "latencies",
                table => table,
            };
            fs::write(path, &bytes).expect("a table");
            fs::write(dir.join("index"), with_checksums(&index, key, &bytes)).expect("an index");
            let (_, why) = read(&dir);
            match &why {
                Some(why) => assert_eq!(why.lines().count(), 1, "{why}"),
                None => whole_count += 1,
            }
            refused += usize::from(why.is_some());
            if change % 100 == 0 {
                // The program has less memory than a claim may ask for.
                let limited = format!("ulimit -v {KIB}; exec \"$0\" \"$@\"");
                let mut replay = Command::new("sh");
                replay.args(["-c", &limited]).arg(binary()).arg("replay").arg(&dir);
                let finished = finish(&replay);
                assert!(matches!(finished.code, Some(0 | 1)), "{table}: {}", finished.stderr);
                assert!(finished.stderr.lines().count() <= 1, "{table}: {}", finished.stderr);
            }
            fs::write(path, &whole).expect("a table");
        }
        assert!(
            whole_count > 0 && refused > 100,
            "{whole_count} were read, {refused} refused"
        );
    });
}

/// What is read of a recording, and why no more.
fn read(dir: &Path) -> (Vec<Input>, Option<String>) {
    let mut inputs = Vec::new();
    let mut read_all = || -> anyhow::Result<()> {
        let mut recording = Recording::open(dir)?;
        while let Some(input) = recording.next(&|_| true)? {
            inputs.push(input);
        }
        Ok(())
    };
    let why = read_all().err().map(|error| format!("{error:#}"));
    (inputs, why)
}

/// A recording that was cut off at any 4 KiB, or has any byte changed, is read up to there, and that is reported.
#[test]
fn damage_is_reported_wherever_it_is() {
    const FLIPS: u64 = 500;
    const PAGE: usize = 4096;
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let dir = place.path().join("recording");
        record_few(&dir);
        let (inputs, why) = read(&dir);
        assert!(inputs.len() > 200 && why.is_none(), "{} inputs: {why:?}", inputs.len());
        let mut files: Vec<PathBuf> = fs::read_dir(&dir)
            .expect("a recording")
            .map(|file| file.expect("a file").path())
            .collect();
        files.sort();
        let is_right = |path: &Path, damaged: &[u8], what: &str| {
            let whole = fs::read(path).expect("a file");
            fs::write(path, damaged).expect("a file");
            let (read, why) = read(&dir);
            let what = format!("{what} of {}", path.display());
            assert!(inputs.starts_with(&read), "{what}: what is read is no part of the run");
            let why = why.unwrap_or_else(|| panic!("{what}: not reported"));
            assert_eq!(why.lines().count(), 1, "{what}: {why}");
            fs::write(path, whole).expect("a file");
        };
        for path in &files {
            let whole = fs::read(path).expect("a file");
            for length in (0..whole.len()).step_by(PAGE) {
                is_right(path, &whole[..length], &format!("the first {length} bytes"));
            }
        }
        let mut random = 7_u64;
        for _ in 0..FLIPS {
            // xorshift64 (Marsaglia, 2003).
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = |most: usize| usize::try_from(random >> 8).expect("64 bits") % most;
            let path = &files[at(files.len())];
            let mut bytes = fs::read(path).expect("a file");
            let (place, bit) = (at(bytes.len()), random % 8);
            bytes[place] ^= 1 << bit;
            is_right(path, &bytes, &format!("bit {bit} of byte {place}"));
        }
    });
}
