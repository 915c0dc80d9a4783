//! The kernels of the matrix, and Debian's names for their packages.

/// One column each: the versions of which the first is tested that Debian serves or that is in the cache.
///
/// 5.10 is Debian 11's kernel, 6.1 that of Debian 12, 6.12 of Debian 13; the others are what came after, up to the newest.
pub(super) const MATRIX: [&[&str]; 5] = [&["5.10"], &["6.1"], &["6.12"], &["6.17", "6.16"], &["7.3"]];

/// The end of the names of kernels for virtual machines, which have no drivers for other hardware.
const FLAVOUR: &str = if cfg!(target_arch = "aarch64") {
    "-cloud-arm64"
} else {
    "-cloud-amd64"
};

/// The packages to boot: those of the first of `versions` that Debian serves (`served`) or, where it no longer does, that an earlier
/// run fetched (`cached`).
pub(super) fn choose<'a>(versions: &[&'a str], served: &[String], cached: &[String]) -> Option<(&'a str, Vec<String>)> {
    versions.iter().find_map(|version| {
        let packages = packages(version, served).or_else(|| packages(version, cached))?;
        Some((*version, packages))
    })
}

/// The packages of the newest kernel of `version` (`6.12`) among `names`.
fn packages(version: &str, names: &[String]) -> Option<Vec<String>> {
    // Of newer kernels linux-image is empty and wants these two.
    let newest = |prefix: &str| newest(prefix, version, names);
    newest("linux-binary-")
        .map(|release| vec![format!("linux-binary-{release}"), format!("linux-modules-{release}")])
        .or_else(|| newest("linux-image-").map(|release| vec![format!("linux-image-{release}")]))
}

/// The newest release among the packages with this prefix: `6.12.118+deb13-cloud-amd64`.
fn newest(prefix: &str, version: &str, names: &[String]) -> Option<String> {
    let releases = names.iter().filter_map(|name| name.strip_prefix(prefix));
    let ours = releases.filter_map(|release| Some((order(release.strip_suffix(FLAVOUR)?, version)?, release)));
    ours.max().map(|(_, release)| release.to_owned())
}

/// What orders the releases of one version: the numbers in `6.12.118+deb13` or `6.1.0-56` after the version. Other builds of the same
/// version, for an older Debian say, are not of the suite whose kernel it is.
fn order(release: &str, version: &str) -> Option<Vec<u32>> {
    // 6.12 begins with 6 and a point, but 6 is no version.
    let (_major, _minor) = version.split_once('.')?;
    let rest = release.strip_prefix(version)?.strip_prefix('.')?;
    let numbers = rest
        .strip_prefix("0-")
        .or_else(|| rest.contains("+deb13").then_some(rest))?;
    let numbers = numbers.replace("+deb", ".");
    numbers.split('.').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::{choose, packages};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("linux-{name}-cloud-amd64")).collect()
    }

    #[test]
    fn the_newest_of_a_version_is_taken() {
        let served = names(&[
            "image-6.1.0-9",
            "image-6.1.0-56",
            "image-6.1.0-0.deb11.99",
            "image-6.1",
            "image-6.12.90+deb13.1",
            "image-6.12.118+deb13",
            "image-6.12.200+deb12",
            "image-6.16.3+deb13",
            "image-7.3.4+deb13",
            "binary-7.3.4+deb13",
            "binary-7.3.12+deb13",
            "binary-unsigned-7.3.13+deb13",
        ]);
        for (version, wanted) in [
            ("6.1", &["image-6.1.0-56"][..]),
            ("6.12", &["image-6.12.118+deb13"]),
            ("6.16", &["image-6.16.3+deb13"]),
            ("7.3", &["binary-7.3.12+deb13", "modules-7.3.12+deb13"]),
        ] {
            assert_eq!(packages(version, &served), Some(names(wanted)), "{version}");
        }
        assert_eq!(packages("6.17", &served), None);
        assert_eq!(packages("6", &served), None);
    }

    #[test]
    fn the_cache_serves_what_debian_no_longer_does() {
        let (served, cached) = (
            names(&["image-6.16.9+deb13", "image-6.1.0-56"]),
            names(&["image-6.17.13+deb13", "image-6.1.0-57", "binary-7.3.4+deb13"]),
        );
        let chosen = |versions: &[&'static str]| choose(versions, &served, &cached);
        assert_eq!(chosen(&["6.1"]), Some(("6.1", names(&["image-6.1.0-56"]))));
        assert_eq!(
            chosen(&["6.17", "6.16"]),
            Some(("6.17", names(&["image-6.17.13+deb13"])))
        );
        assert_eq!(
            chosen(&["7.3"]),
            Some(("7.3", names(&["binary-7.3.4+deb13", "modules-7.3.4+deb13"])))
        );
        assert_eq!(chosen(&["5.10"]), None);
    }
}
