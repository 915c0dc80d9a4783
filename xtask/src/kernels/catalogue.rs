//! The kernels of the matrix, and Debian's names for their packages.

/// One column each: the versions of which the first is tested that can be had.
///
/// 5.10 is Debian 11's kernel, 6.1 that of Debian 12, 6.12 of Debian 13; the others are what came after, up to the newest.
pub(super) const MATRIX: [&[&str]; 5] = [&["5.10"], &["6.1"], &["6.12"], &["6.17", "6.16"], &["7.3"]];

/// The end of the names of kernels for virtual machines, which have no drivers for other hardware.
const FLAVOUR: &str = if cfg!(target_arch = "aarch64") {
    "-cloud-arm64"
} else {
    "-cloud-amd64"
};

/// The packages of each kernel of `version` (`6.12`) among `names`, the newest first.
pub(super) fn candidates(version: &str, names: &[String]) -> Vec<Vec<String>> {
    // Of newer kernels linux-image is empty and wants these two.
    let binaries = releases("linux-binary-", version, names);
    if binaries.is_empty() {
        let images = releases("linux-image-", version, names).into_iter();
        images.map(|release| vec![format!("linux-image-{release}")]).collect()
    } else {
        let packages = |release| vec![format!("linux-binary-{release}"), format!("linux-modules-{release}")];
        binaries.into_iter().map(packages).collect()
    }
}

/// The releases among the packages with this prefix, the newest first: `6.12.118+deb13-cloud-amd64`.
fn releases<'a>(prefix: &str, version: &str, names: &'a [String]) -> Vec<&'a str> {
    let releases = names.iter().filter_map(|name| name.strip_prefix(prefix));
    let mut ours: Vec<_> = releases
        .filter_map(|release| Some((order(release.strip_suffix(FLAVOUR)?, version)?, release)))
        .collect();
    ours.sort_unstable_by(|one, other| other.cmp(one));
    ours.dedup();
    ours.into_iter().map(|(_, release)| release).collect()
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
    use super::candidates;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| format!("linux-{name}-cloud-amd64")).collect()
    }

    #[test]
    fn the_newest_of_a_version_comes_first() {
        let listed = names(&[
            "image-6.1.0-9",
            "image-6.1.0-56",
            "image-6.1.0-0.deb11.99",
            "image-6.1",
            "image-6.12.90+deb13.1",
            "image-6.12.118+deb13",
            "image-6.12.200+deb12",
            "image-6.16.3+deb13",
            "image-6.16.3+deb13",
            "image-7.3.4+deb13",
            "binary-7.3.4+deb13",
            "binary-7.3.12+deb13",
            "binary-unsigned-7.3.13+deb13",
        ]);
        for (version, wanted) in [
            ("6.1", &[&["image-6.1.0-56"][..], &["image-6.1.0-9"]][..]),
            ("6.12", &[&["image-6.12.118+deb13"], &["image-6.12.90+deb13.1"]]),
            ("6.16", &[&["image-6.16.3+deb13"]]),
            (
                "7.3",
                &[
                    &["binary-7.3.12+deb13", "modules-7.3.12+deb13"],
                    &["binary-7.3.4+deb13", "modules-7.3.4+deb13"],
                ],
            ),
            ("6.17", &[]),
            ("6", &[]),
        ] {
            let wanted: Vec<_> = wanted.iter().map(|packages| names(packages)).collect();
            assert_eq!(candidates(version, &listed), wanted, "{version}");
        }
    }
}
