//! `tcpwatch snapshot` of many sockets, next to what people type now.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::child::{Running, Usage};
use super::numbers::{SampleStats, float, median, paired};
use super::report::Report;
use super::sandbox::Sandbox;
use super::socket_pool::SocketPool;
use super::table::{self, number, range};
use super::target::Target;
use super::{memory, stat, system};
use crate::clock;

/// Sockets of the small pool, with which memory is compared.
const FEW: u64 = 1_000;
/// Sockets of the large one: 100,000 and some, should a few go.
const MANY: u64 = 104_000;
/// The most that memory may differ by: more than the pages a run happens to touch.
const SAME_MEMORY: f64 = 1.1;

/// The ways that are promised to be quick: how many times quicker than `ss` and than `netstat`.
const PROMISES: [(&str, f64, f64); 2] = [("iter", 3.0, 5.0), ("sock_diag", 1.5, 2.5)];

/// A way to count sockets.
struct Way {
    name: String,
    command: Box<dyn Fn() -> Command>,
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
}

/// Runs this part.
pub(super) fn run(sandbox: &Sandbox, report: &mut Report) -> Result<()> {
    sandbox.keep_timewait(1 << 20)?;
    report.progress("snapshot, few sockets", 0, 1);
    let few = SocketPool::gather(FEW)?;
    let of_few = most_memory(sandbox)?;
    drop(few);
    report.progress("snapshot, gathering many sockets", 0, 1);
    let _many = SocketPool::gather(MANY)?;
    let at_first = count(sandbox)?;
    let of_many = most_memory(sandbox)?;
    let mut ways = ways(sandbox);
    let rounds = sandbox.choose(9, 3);
    for round in 0..rounds {
        report.progress("snapshot", round, rounds);
        let length = ways.len();
        ways.rotate_left(1 % length);
        for way in &mut ways {
            let start = clock::start();
            let usage = quiet((way.command)())?;
            way.wall_ms.push(start.elapsed().as_secs_f64() * 1e3);
            way.cpu_ms.push(usage.cpu().as_secs_f64() * 1e3);
        }
    }
    let at_last = count(sandbox)?;
    report.title("snapshot: sockets of one namespace counted by state")?;
    report.line(&format!(
        "{rounds} rounds; {at_first} sockets at first, {at_last} at last; ms of wall clock, output to /dev/null"
    ))?;
    ways.sort_by(|one, other| median(&one.wall_ms).total_cmp(&median(&other.wall_ms)));
    show(report, &ways)?;
    judge(report, &ways);
    report.line("")?;
    report.line("most memory of `tcpwatch snapshot`, KiB")?;
    let mut rows = Vec::new();
    for ((source, few), (_, many)) in of_few.iter().zip(&of_many) {
        rows.push(vec![source.clone(), few.to_string(), many.to_string()]);
        let promise = format!("memory of snapshot --source {source} at {at_first} sockets, next to {FEW}");
        report.target(Target::at_most(
            &promise,
            float(*many) / float(*few),
            SAME_MEMORY,
            "x",
            2,
        ));
        report.raw(
            &format!("snapshot, memory, {source}"),
            json!({ "few": few, "many": many }),
        );
    }
    let header = ["", &format!("{FEW} sockets"), &format!("{at_first} sockets")];
    for line in table::lines(&header, &rows) {
        report.line(&line)?;
    }
    let idle = Duration::from_secs(sandbox.choose(10, 3));
    let costs = stat::measure(sandbox, report, "stat of many", sandbox.choose(3, 1), idle)?;
    report.line("")?;
    report.line("`tcpwatch stat 1` beside these sockets (nothing is promised of it)")?;
    stat::show(report, &costs, idle)
}

/// Every way there is here.
fn ways(sandbox: &Sandbox) -> Vec<Way> {
    let mut ways: Vec<Way> = SOURCES
        .map(|source| {
            let tcpwatch = sandbox.tcpwatch.clone();
            Way::new(source, move || snapshot(&tcpwatch, source))
        })
        .into();
    if let Some(ss) = sandbox.peers.ss.clone() {
        ways.push(Way::new(SS, move || {
            awk(&ss, "-tan", "{++S[$1]} END {for(a in S) print S[a], a}")
        }));
    }
    if let Some(netstat) = sandbox.peers.netstat.clone() {
        ways.push(Way::new(NETSTAT, move || {
            awk(&netstat, "-ant", "/^tcp/ {++S[$NF]} END {for(a in S) print S[a], a}")
        }));
    }
    ways
}

const SOURCES: [&str; 3] = ["iter", "sock_diag", "proc"];
const SS: &str = "ss -tan | awk";
const NETSTAT: &str = "netstat -ant | awk";

impl Way {
    fn new(name: &str, command: impl Fn() -> Command + 'static) -> Self {
        Self {
            name: name.to_owned(),
            command: Box::new(command),
            wall_ms: Vec::new(),
            cpu_ms: Vec::new(),
        }
    }
}

fn snapshot(tcpwatch: &Path, source: &str) -> Command {
    let mut command = Command::new(tcpwatch);
    command.args(["snapshot", "--source", source]);
    command
}

/// `program argument | awk script`, as one types it.
fn awk(program: &Path, argument: &str, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", r#""$0" "$1" | awk "$2""#]);
    command.arg(program).args([argument, script]);
    command
}

/// Runs a command that says nothing.
fn quiet(mut command: Command) -> Result<Usage> {
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()))?.wait()
}

/// How many sockets there are.
fn count(sandbox: &Sandbox) -> Result<u64> {
    let line = system::first_line(&sandbox.tcpwatch, &["snapshot", "--count", "--source", "sock_diag"]);
    line.and_then(|line| line.parse().ok())
        .context("tcpwatch snapshot --count gives no number")
}

/// Of each source, the most memory it ever has, KiB.
fn most_memory(sandbox: &Sandbox) -> Result<Vec<(String, u64)>> {
    SOURCES
        .into_iter()
        .map(|source| {
            let mut runs = (0..7)
                .map(|_| memory::peak_kib(&snapshot(&sandbox.tcpwatch, source)))
                .collect::<Result<Vec<u64>>>()?;
            runs.sort_unstable();
            Ok((source.to_owned(), runs[3]))
        })
        .collect()
}

/// How many times quicker `way` is than the one called `peer`, round by round.
fn quicker(ways: &[Way], way: &Way, peer: &str) -> SampleStats {
    let peer = ways
        .iter()
        .find(|way| way.name == peer)
        .map_or(&[][..], |way| &way.wall_ms);
    SampleStats::from_samples(&paired(peer, &way.wall_ms, |peer, way| peer / way))
}

fn show(report: &mut Report, ways: &[Way]) -> Result<()> {
    let mut rows = Vec::new();
    for way in ways {
        let wall = SampleStats::from_samples(&way.wall_ms);
        rows.push(vec![
            way.name.clone(),
            number(wall.median, 1),
            number(wall.mad, 1),
            range(wall.min, wall.max, 0),
            number(median(&way.cpu_ms), 1),
            number(quicker(ways, way, SS).median, 2),
            number(quicker(ways, way, NETSTAT).median, 2),
        ]);
        report.raw(
            &format!("snapshot, {}", way.name),
            json!({ "wall_ms": way.wall_ms, "cpu_ms": way.cpu_ms }),
        );
    }
    let header = [
        "",
        "ms",
        "noise",
        "min..max",
        "CPU, ms",
        "quicker than ss",
        "than netstat",
    ];
    for line in table::lines(&header, &rows) {
        report.line(&line)?;
    }
    Ok(())
}

fn judge(report: &mut Report, ways: &[Way]) {
    for (source, than_ss, than_netstat) in PROMISES {
        let Some(way) = ways.iter().find(|way| way.name == source) else {
            continue;
        };
        for (peer, times) in [(SS, than_ss), (NETSTAT, than_netstat)] {
            let promise = format!("snapshot --source {source}, quicker than {peer}");
            let measured = quicker(ways, way, peer).median;
            report.target(Target::at_least(&promise, measured, times, "x", 1));
        }
    }
}
