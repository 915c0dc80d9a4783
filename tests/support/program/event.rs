//! One line of `tcpwatch trace -o json`.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::Value;

use crate::support::lines::Line;
use crate::support::states::number;

/// One transition.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) arrived: SystemTime,
    pub(crate) time: Timestamp,
    pub(crate) id: String,
    pub(crate) cookie: Option<String>,
    pub(crate) family: String,
    pub(crate) local: String,
    pub(crate) lport: Option<u64>,
    pub(crate) remote: String,
    pub(crate) rport: Option<u64>,
    pub(crate) from: u8,
    pub(crate) to: u8,
    pub(crate) dwell_ns: Option<u64>,
    pub(crate) netns: Option<u64>,
    /// `active` or `passive`, where the opening was seen.
    pub(crate) opened: Option<String>,
    pub(crate) owner: Option<Owner>,
    /// Path of the owner's cgroup.
    pub(crate) cgroup: Option<String>,
    /// How it ended, by tcpwatch's key.
    pub(crate) ended: Option<String>,
}

/// Whose the socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) pid: Option<u64>,
    pub(crate) comm: String,
    /// How that is known, by tcpwatch's key.
    pub(crate) how: String,
}

impl Owner {
    /// The object `{"pid": 812, "comm": "nginx", "how": "accept"}`; `None` of null.
    fn of(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("no {key} in {json}"));
        json.as_object().map(|object| {
            assert_eq!(object.len(), 3, "an owner is pid, comm and how: {json}");
            assert!(json["pid"].is_null() || json["pid"].is_u64(), "no pid in {json}");
            Self {
                pid: json["pid"].as_u64(),
                comm: text("comm").to_owned(),
                how: text("how").to_owned(),
            }
        })
    }
}

impl Event {
    /// Whether a connection ends with it: a listener is none.
    pub(crate) fn is_end(&self) -> bool {
        self.to == 7 && ![7, 10].contains(&self.from)
    }

    pub(crate) fn of(line: &Line) -> Self {
        let json = &line.json;
        assert_eq!(json["schema"], "tcpwatch.trace/1");
        let keys = json.as_object().expect("an object");
        for key in ["opened", "owner", "cgroup", "container", "pod", "ended"] {
            assert!(keys.contains_key(key), "no {key} in {json}");
        }
        assert_eq!(
            json["ended"].is_string(),
            json["to"] == "close",
            "ended is said at the end, and nowhere else: {json}"
        );
        let text = |key: &str| {
            json[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key} in {json}"))
                .to_owned()
        };
        let optional = |key: &str| {
            assert!(
                json.get(key).is_some_and(|value| value.is_null() || value.is_u64()),
                "no {key} in {json}"
            );
            json[key].as_u64()
        };
        Self {
            arrived: line.arrived,
            time: text("time").parse().expect("RFC 3339"),
            id: text("id"),
            cookie: json["cookie"].as_str().map(str::to_owned),
            family: text("family"),
            local: text("local"),
            lport: optional("lport"),
            remote: text("remote"),
            rport: optional("rport"),
            from: number(&text("from")),
            to: number(&text("to")),
            dwell_ns: optional("dwell_ns"),
            netns: optional("netns"),
            opened: json["opened"].as_str().map(str::to_owned),
            owner: Owner::of(&json["owner"]),
            cgroup: json["cgroup"].as_str().map(str::to_owned),
            ended: json["ended"].as_str().map(str::to_owned),
        }
    }
}

/// The transitions of each life, in the order they were printed; lives in the order of their first.
pub(crate) fn lives(events: &[Event]) -> Vec<Vec<Event>> {
    let mut lives: Vec<Vec<Event>> = Vec::new();
    let mut by_id: HashMap<&str, usize> = HashMap::new();
    for event in events {
        let place = *by_id.entry(&event.id).or_insert_with(|| {
            lives.push(Vec::new());
            lives.len() - 1
        });
        lives[place].push(event.clone());
    }
    lives
}

/// `7>2 2>1 1>4`, to compare with at a glance.
pub(crate) fn path(life: &[Event]) -> String {
    let steps: Vec<String> = life
        .iter()
        .map(|event| format!("{}>{}", event.from, event.to))
        .collect();
    steps.join(" ")
}
