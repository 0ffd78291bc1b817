//! The programs that are compared.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ctkeeper_lab::Namespace;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use super::case::{Case, Stdout, User};
use super::mask::Moment;

/// Debian's program.
pub const REFERENCE: &str = "/usr/sbin/conntrack";
/// Nothing here takes a second, on a machine that is not busy.
const LONGEST: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_micros(300);
/// What everybody's environment has.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that speaks conntrack's language.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// What stands before conntrack's own arguments.
    before: Vec<String>,
    /// It is the reference, or calls it.
    faulty: bool,
    /// Keeps the link that it is called by.
    _folder: Option<Arc<TempDir>>,
}

/// How a call went.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// `exit 0`, `signal 11`.
    pub end: String,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// When.
    pub moment: Moment,
}

/// Where and how a program is called.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) namespace: &'a Namespace,
    pub(super) labels: Option<&'a str>,
    pub(super) folder: &'a Path,
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    name: String,
    what: String,
}

impl Program {
    /// The reference.
    pub fn reference() -> Self {
        Self::spoilt_reference(REFERENCE)
    }

    /// A program under the name `conntrack`.
    pub fn called_conntrack(path: &Path) -> anyhow::Result<Self> {
        let path = fs::canonicalize(path).with_context(|| path.display().to_string())?;
        let folder = tempfile::Builder::new().prefix("ctk-conntrack-").tempdir()?;
        // Nobody must get there too.
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let link = folder.path().join("conntrack");
        symlink(&path, &link)?;
        Ok(Self { path: link, before: Vec::new(), faulty: false, _folder: Some(Arc::new(folder)) })
    }

    /// A program whose first argument is `conntrack`.
    pub fn with_subcommand(path: &Path) -> Self {
        let before = vec!["conntrack".to_owned()];
        Self { path: path.to_owned(), before, faulty: false, _folder: None }
    }

    /// The reference with something spoilt, to be caught.
    pub fn spoilt_reference(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), before: Vec::new(), faulty: true, _folder: None }
    }

    /// Whether it has the reference's faults.
    pub const fn has_the_faults(&self) -> bool {
        self.faulty
    }

    /// Calls it and waits for its end.
    pub(super) fn call(
        &self,
        arguments: &[String],
        case: &Case,
        place: &Place<'_>,
    ) -> anyhow::Result<Said> {
        self.start(arguments, case, place)?.finish()
    }

    /// Calls it.
    pub(super) fn start(
        &self,
        arguments: &[String],
        case: &Case,
        place: &Place<'_>,
    ) -> anyhow::Result<Running> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let mut command = self.command(arguments, case);
        command.current_dir(place.folder).stdin(input(&case.stdin)?);
        command.env_clear().env("PATH", PATH).env("TZ", "UTC").envs(&case.environment);
        command.stdout(output(case.stdout, &stdout)?).stderr(Stdio::from(stderr.try_clone()?));
        let child = place.enter(|| command.spawn())?;
        let own = std::iter::once(self.path.display().to_string());
        let name = own.chain(self.before.clone()).collect::<Vec<_>>().join(" ");
        let what = format!("{name} {}", arguments.join(" "));
        Ok(Running { child: child.with_context(|| what.clone())?, stdout, stderr, name, what })
    }

    fn command(&self, arguments: &[String], case: &Case) -> Command {
        let mut words: Vec<String> = match case.user {
            User::Root => Vec::new(),
            User::WithoutNetAdmin => own("setpriv --bounding-set=-net_admin --inh-caps=-net_admin"),
            User::Nobody => own("setpriv --reuid=65534 --regid=65534 --clear-groups"),
        };
        if case.stdout == Stdout::Closed {
            words.extend(["sh", "-c", "exec \"$0\" \"$@\" >&-"].map(str::to_owned));
        }
        words.push(self.path.display().to_string());
        words.extend(self.before.iter().chain(arguments).cloned());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

fn own(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

fn input(text: &str) -> anyhow::Result<Stdio> {
    let mut file = tempfile::tempfile()?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn output(kind: Stdout, file: &File) -> anyhow::Result<Stdio> {
    Ok(match kind {
        Stdout::File | Stdout::Closed => file.try_clone()?.into(),
        Stdout::Broken => std::io::pipe()?.1.into(),
        Stdout::Full => File::options().write(true).open("/dev/full")?.into(),
    })
}

impl Place<'_> {
    /// Calls `f` there, with the labels where the program looks for them.
    pub(super) fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        self.namespace.enter(|| {
            self.labels.map_or(Ok(()), lay_labels)?;
            Ok(f())
        })?
    }
}

/// In a mount namespace of the calling thread's own `/etc` gets a layer above it.
fn lay_labels(labels: &str) -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of our own")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), nothing).context("tmpfs")?;
    for folder in ["/mnt/upper/xtables", "/mnt/work"] {
        fs::create_dir_all(folder)?;
    }
    fs::write("/mnt/upper/xtables/connlabel.conf", labels)?;
    let layers = "lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work";
    mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(layers))
        .context("overlay")
}

impl Running {
    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> anyhow::Result<Said> {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if begin.elapsed() > LONGEST {
                self.child.kill()?;
                self.child.wait()?;
                bail!("does not end: {}", self.what);
            }
            std::thread::sleep(PAUSE);
        };
        Ok(Said {
            end: end_of(status),
            // Either may name itself as it was called.
            stdout: text(self.stdout)?.replace(&self.name, "conntrack"),
            stderr: text(self.stderr)?.replace(&self.name, "conntrack"),
            moment: Moment::default(),
        })
    }
}

fn end_of(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    }
}

/// Bytes that are not UTF-8 stay visible.
fn text(mut file: File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes.utf8_chunks().fold(String::new(), |text, chunk| {
        text + chunk.valid() + &chunk.invalid().escape_ascii().to_string()
    }))
}
