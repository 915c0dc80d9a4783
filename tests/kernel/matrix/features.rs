//! `--version -v` lists what the kernel offers: a hook that is on can be attached, and one that is off cannot.

use serde_json::Value;

use crate::support::netns::in_netns;
use crate::support::program::Hook;
use crate::support::program::run::{finish, tcpwatch};

#[test]
fn hooks_are_on_where_they_attach() {
    in_netns(|_| {
        let listed = finish(&tcpwatch(&["--version", "-v", "-o", "json"]));
        assert_eq!((listed.code, listed.stderr.as_str()), (Some(0), ""), "{listed:?}");
        let listed: Value = serde_json::from_str(&listed.stdout).expect("JSON");
        let features = listed["features"].as_array().expect("features");
        for feature in features {
            assert_eq!(feature["on"], feature["reason"].is_null(), "{feature}");
        }
        for hook in Hook::BOTH {
            let feature = features.iter().find(|feature| feature["name"] == hook.name());
            let feature = feature.unwrap_or_else(|| panic!("{} is not listed: {listed}", hook.name()));
            let attached = finish(&tcpwatch(&["stat", "0.1", "1", "--hook", hook.name()]));
            assert_eq!(
                attached.code == Some(0),
                feature["on"] == true,
                "{attached:?}: {listed}"
            );
        }
    });
}
