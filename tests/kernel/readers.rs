//! Other programs read recordings and exports: `pyarrow`, `duckdb` and `polars`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::child::Reaped;
use crate::support::clock::{pass, until};
use crate::support::leaking_server::Leaking;
use crate::support::netns::in_netns;
use crate::support::output::output;
use crate::support::program::run::{finish, tcpwatch};
use crate::support::workload::bulk;

/// Reads every table of the recording, of its Parquet files and of its CSV files; prints the number of rows and the sum of `seq` that
/// each program finds.
const READ: &str = "
import duckdb, json, pathlib, polars, pyarrow.compute, pyarrow.ipc, sys
recording, parquet, csv = map(pathlib.Path, sys.argv[1:])
found = {}
for stream in sorted(recording.glob('*.arrows')):
    table = pyarrow.ipc.open_stream(stream.read_bytes()).read_all()
    arrow = [table.num_rows, pyarrow.compute.sum(table['seq']).as_py()]
    of = {'pyarrow': arrow}
    for file in (parquet / (stream.stem + '.parquet'), csv / (stream.stem + '.csv')):
        of['duckdb ' + file.suffix] = list(duckdb.sql(f\"SELECT count(*), sum(seq)::BIGINT FROM '{file}'\").fetchall()[0])
        rows = polars.read_parquet(file) if file.suffix == '.parquet' else polars.read_csv(file, infer_schema_length=None)
        of['polars ' + file.suffix] = [rows.height, rows['seq'].sum()]
    found[stream.stem] = of
print(json.dumps(found))
";

/// Transitions by their states in the Parquet file, as `duckdb` finds them.
const MOVES: &str = "
import duckdb, json, sys
sql = f\"SELECT \\\"from\\\" || '>' || \\\"to\\\" AS move, count(*) FROM '{sys.argv[1]}' GROUP BY move\"
print(json.dumps(dict(duckdb.sql(sql).fetchall())))
";

fn python(script: &str, args: &[&Path]) -> Value {
    let text = output(Command::new("python3").args(["-c", script]).args(args));
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn read_what_was_recorded() {
    in_netns(|_| {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| place.path().join(name);
        let (dir, parquet, csv) = (path("recording"), path("parquet"), path("csv"));
        let server = Leaking::start("error_path.c", 9000, &[]);
        let mut command = tcpwatch(&["record", "0.5", "-d", "3", "--older", "1s", "-w"]);
        command.arg(&dir).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut run = Reaped::spawn(&mut command);
        // What comes before the first counts is of no interval.
        until("the first counts of the recording", || {
            fs::read_to_string(dir.join("index")).is_ok_and(|index| index.contains("\"ledgers\""))
        });
        while run.0.try_wait().expect("waiting for a child").is_none() {
            server.visit("");
            bulk::connections(20);
            pass(Duration::from_millis(20));
        }
        let (status, _, stderr) = run.output();
        assert!(status.success(), "{stderr}");
        let exports = [("parquet", &parquet), ("csv", &csv)].map(|(format, to)| {
            let mut export = tcpwatch(&["replay"]);
            let exported = finish(export.arg(&dir).args(["export", "--format", format, "-w"]).arg(to));
            assert_eq!((exported.code, exported.stderr.as_str()), (Some(0), ""), "{format}");
            // `transitions.parquet  123`
            let rows = exported.stdout.lines().map(|line| {
                let (name, count) = line.split_once("  ").expect("two columns");
                let table = name.split('.').next().unwrap_or_default();
                (table.to_owned(), count.trim().parse().expect("a count"))
            });
            rows.collect::<BTreeMap<String, u64>>()
        });
        assert_eq!(exports[0], exports[1]);
        let found = python(READ, &[&dir, &parquet, &csv]);
        let found = found.as_object().expect("tables");
        let tables: Vec<&String> = found.keys().collect();
        assert_eq!(tables, exports[0].keys().collect::<Vec<_>>(), "each has its stream");
        assert!(tables.len() > 12, "{tables:?}");
        for (table, by) in found {
            let by = by.as_object().expect("programs");
            assert_eq!(by.len(), 5, "{table}: {by:?}");
            for (program, rows) in by {
                assert_eq!(rows, &by["pyarrow"], "{table} by {program}");
                assert_eq!(rows[0], exports[0][table], "{table} by {program}");
            }
        }
        assert_eq!(python(MOVES, &[&parquet.join("transitions.parquet")]), moves(&dir));
        let files = fs::read_dir(&parquet).expect("an export").count();
        assert_eq!(files, tables.len());
    });
}

/// Transitions by their states, added up over what `stat` prints of the recording.
fn moves(dir: &Path) -> Value {
    let stat = finish(tcpwatch(&["replay"]).arg(dir).args(["stat", "-o", "json"]));
    assert_eq!((stat.code, stat.stderr.as_str()), (Some(0), ""));
    let mut moves: BTreeMap<String, u64> = BTreeMap::new();
    for line in stat.stdout.lines() {
        let row: Value = serde_json::from_str(line).expect("JSON");
        for (states, count) in row["transitions"].as_object().expect("transitions") {
            *moves.entry(states.clone()).or_default() += count.as_u64().expect("a count");
        }
    }
    serde_json::json!(moves)
}
