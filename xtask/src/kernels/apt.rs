//! Debian's package manager with a configuration of its own, which has the suites of several releases. The host's is not touched.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, iter};

use anyhow::{Context as _, Result, bail};

use crate::system;

/// Signs the suites of all releases.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Suites of the archive.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "trixie-backports"];
/// Suites with security updates, which lie elsewhere.
const SECURITY_SUITES: [&str; 3] = ["bullseye-security", "bookworm-security", "trixie-security"];

/// The package manager, with its lists in a folder of ours.
pub(super) struct Apt {
    configuration: PathBuf,
    /// Every package that any suite has.
    names: Vec<String>,
}

impl Apt {
    /// Writes the configuration below `folder` and fetches the package lists.
    ///
    /// # Errors
    /// This machine has no mirror, or a list cannot be fetched. A suite that the mirror does not have is no error.
    pub(super) fn set_up(folder: &Path) -> Result<Self> {
        let folder = folder.join("apt");
        let lists = folder.join("state/lists");
        if lists.exists() {
            // apt keeps the list of a suite that the mirror has dropped.
            fs::remove_dir_all(&lists).with_context(|| format!("cannot remove {}", lists.display()))?;
        }
        for part in ["etc", "state/lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let configuration = folder.join("etc/apt.conf");
        let hosts = output(Command::new("apt-config").arg("dump"))?;
        let sources = sources(&Mirrors::of_this_machine()?);
        for (file, text) in [
            (&configuration, settings(&folder, &hosts, system::is_root())),
            (&folder.join("etc/sources.list"), sources),
            (&folder.join("state/status"), String::new()),
        ] {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let mut apt = Self {
            configuration,
            names: Vec::new(),
        };
        eprintln!(
            "fetching package lists of {}, {}",
            SUITES.join(", "),
            SECURITY_SUITES.join(", ")
        );
        apt.update()?;
        apt.names = output(apt.command("apt-cache").args(["pkgnames", "linux-"]))?
            .lines()
            .map(str::to_owned)
            .collect();
        if apt.names.is_empty() {
            bail!("cannot find any kernel package: the mirror has none of these suites");
        }
        Ok(apt)
    }

    /// Fetches the package lists.
    fn update(&self) -> Result<()> {
        let errors = self.apt_get(&["update"], Path::new("."))?;
        if !errors.iter().all(|error| is_missing_suite(error)) {
            bail!("cannot fetch the package lists: apt-get failed, see above; try again when the mirror answers");
        }
        Ok(())
    }

    /// Every package whose name begins with `linux-`.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Downloads packages into `folder`, and checks their hashes. Returns whether the mirror has them all: of old suites it lists
    /// packages that it no longer has.
    ///
    /// # Errors
    /// apt-get fails for another reason, a hash that does not match among them.
    pub(super) fn download(&self, packages: &[String], folder: &Path) -> Result<bool> {
        let names = packages.iter().map(String::as_str);
        let arguments: Vec<&str> = iter::once("download").chain(names).collect();
        let errors = self.apt_get(&arguments, folder)?;
        if !errors.iter().all(|error| is_missing_package(error)) {
            bail!("apt-get failed, see above; try again when the mirror answers");
        }
        Ok(errors.is_empty())
    }

    /// Runs apt-get in `folder`, shows its messages, and returns its errors: one or more where it fails.
    fn apt_get(&self, arguments: &[&str], folder: &Path) -> Result<Vec<String>> {
        let mut command = self.command("apt-get");
        command.arg("--quiet=2").args(arguments).current_dir(folder);
        // The messages are read, so they must not be translated.
        command.env("LC_ALL", "C").stderr(Stdio::piped());
        let output = command.output().context("cannot start apt-get")?;
        let messages = String::from_utf8_lossy(&output.stderr);
        eprint!("{messages}");
        if output.status.success() {
            return Ok(Vec::new());
        }
        let errors: Vec<String> = messages
            .lines()
            .filter_map(|line| line.strip_prefix("E: "))
            .map(str::to_owned)
            .collect();
        if errors.is_empty() {
            bail!("apt-get failed without a message: {}", output.status);
        }
        Ok(errors)
    }

    /// A program of apt's with our configuration.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).stdin(Stdio::null());
        // What is printed goes beside the progress of the other kernels.
        command.stdout(Stdio::null());
        command
    }
}

/// Whether an error of `apt-get update` is that the mirror does not have a suite.
fn is_missing_suite(error: &str) -> bool {
    error.ends_with("does not have a Release file.")
}

/// Whether an error of `apt-get download` is that the mirror does not have a package.
fn is_missing_package(error: &str) -> bool {
    error.starts_with("Failed to fetch ") && error.contains("  404  ")
}

/// Where this machine has its packages from.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    archive: String,
    security: String,
}

impl Mirrors {
    fn of_this_machine() -> Result<Self> {
        let mut list = Command::new("apt-get");
        list.args([
            "indextargets",
            "--format",
            "$(RELEASE) $(REPO_URI)",
            "Created-By: Packages",
        ]);
        Self::among(&output(&mut list)?).context("cannot find a Debian mirror: apt-get knows none")
    }

    /// Of lines `SUITE URI`. Where there is no mirror of security updates, the archive's may have them beside it.
    fn among(lines: &str) -> Option<Self> {
        let sources: Vec<(&str, &str)> = lines.lines().filter_map(|line| line.split_once(' ')).collect();
        let uri = |is: fn(&str) -> bool| {
            let found = sources
                .iter()
                .find(|(suite, uri)| is(suite) && uri.trim_end_matches('/').contains("debian"));
            found.map(|(_, uri)| uri.trim_end_matches('/').to_owned())
        };
        let archive = uri(|suite| !suite.ends_with("-security"))?;
        let security = uri(|suite| suite.ends_with("-security")).unwrap_or_else(|| format!("{archive}-security"));
        Some(Self { archive, security })
    }
}

/// The list of sources.
fn sources(mirrors: &Mirrors) -> String {
    let archive = SUITES.map(|suite| (&mirrors.archive, suite));
    let security = SECURITY_SUITES.map(|suite| (&mirrors.security, suite));
    let sources = archive.iter().chain(&security);
    let lines = sources.map(|(uri, suite)| format!("deb [signed-by={KEYRING}] {uri} {suite} main\n"));
    lines.collect::<Vec<_>>().concat()
}

/// The configuration: the host's own of how to fetch (proxies, say), and none of its places.
fn settings(folder: &Path, hosts: &str, is_root: bool) -> String {
    let folder = folder.display();
    // Kernels need no indexes but the packages'.
    let is_kept = |line: &&str| line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets");
    let fetching: Vec<&str> = hosts.lines().filter(is_kept).flat_map(|line| [line, "\n"]).collect();
    let fetching = fetching.concat();
    // Apt's own user cannot write into a folder of root's.
    let sandbox = if is_root { "APT::Sandbox::User \"root\";\n" } else { "" };
    // apt-get update succeeds otherwise when the mirror cannot be reached.
    let strict = "APT::Update::Error-Mode \"any\";\n";
    format!(
        "{fetching}{sandbox}{strict}\
         Dir::Etc \"{folder}/etc\";\n\
         Dir::Etc::sourcelist \"{folder}/etc/sources.list\";\n\
         Dir::Etc::sourceparts \"/dev/null\";\n\
         Dir::Etc::parts \"/dev/null\";\n\
         Dir::Etc::main \"/dev/null\";\n\
         Dir::Etc::preferences \"/dev/null\";\n\
         Dir::Etc::preferencesparts \"/dev/null\";\n\
         Dir::State \"{folder}/state\";\n\
         Dir::State::status \"{folder}/state/status\";\n\
         Dir::Cache \"{folder}/cache\";\n\
         Dir::Cache::pkgcache \"pkgcache.bin\";\n\
         Dir::Cache::srcpkgcache \"srcpkgcache.bin\";\n"
    )
}

/// What a program prints, if it succeeds.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: see above");
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} prints no UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Mirrors, is_missing_package, is_missing_suite, settings, sources};

    fn mirrors(archive: &str, security: &str) -> Mirrors {
        Mirrors {
            archive: archive.to_owned(),
            security: security.to_owned(),
        }
    }

    #[test]
    fn the_mirrors_are_this_machines() {
        let lines = "stable http://example.org/other/\n\
            bookworm-security http://example.com/debian-security/\n\
            bookworm http://example.com/debian/\n\
            bookworm-updates http://example.com/debian/\n";
        assert_eq!(
            Mirrors::among(lines),
            Some(mirrors(
                "http://example.com/debian",
                "http://example.com/debian-security"
            ))
        );
        assert_eq!(
            Mirrors::among("sid http://example.com/debian"),
            Some(mirrors(
                "http://example.com/debian",
                "http://example.com/debian-security"
            ))
        );
        assert_eq!(Mirrors::among("stable http://example.org/other/"), None);
    }

    #[test]
    fn what_the_mirror_does_not_have_differs_from_a_failure() {
        assert!(is_missing_suite(
            "The repository 'http://example.com/debian wheezy Release' does not have a Release file."
        ));
        assert!(is_missing_package(
            "Failed to fetch http://example.com/debian/pool/a_404_arm64.deb  404  Not Found [IP: 203.0.113.1 80]"
        ));
        for failure in [
            "Failed to fetch http://example.com/debian/pool/a_404_arm64.deb  Could not connect to example.com:80 (203.0.113.1). - \
             connect (111: Connection refused)",
            "Failed to fetch http://example.com/debian/pool/a_404_arm64.deb  File has unexpected size (6 != 5). Mirror sync in \
             progress? [IP: 203.0.113.1 80]",
            "Some index files failed to download. They have been ignored, or old ones used instead.",
        ] {
            assert!(!is_missing_suite(failure) && !is_missing_package(failure), "{failure}");
        }
    }

    #[test]
    fn security_suites_come_from_their_own_mirror() {
        let sources = sources(&mirrors("A", "S"));
        assert!(
            sources.lines().any(|line| line.ends_with(" A trixie-backports main")),
            "{sources}"
        );
        assert!(
            sources.lines().any(|line| line.ends_with(" S bullseye-security main")),
            "{sources}"
        );
    }

    #[test]
    fn proxies_of_the_host_are_kept_and_its_places_are_not() {
        let hosts = "Dir::State \"/var/lib/apt\";\nAcquire::http::Proxy \"http://proxy:3128\";\n\
            APT::Update::Post-Invoke:: \"rm -f /x\";\n";
        let settings = settings(Path::new("/f"), hosts, false);
        assert!(
            settings.contains("Acquire::http::Proxy \"http://proxy:3128\";\n"),
            "{settings}"
        );
        assert!(settings.contains("Dir::State \"/f/state\";\n"), "{settings}");
        for kept_out in ["/var/lib/apt", "Post-Invoke", "Sandbox"] {
            assert!(!settings.contains(kept_out), "{kept_out}: {settings}");
        }
    }
}
