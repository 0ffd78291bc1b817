//! `ctkeeper fix`: plan, explain, ask, apply, verify, persist; undo.

mod draw;
mod values;

use std::cell::Cell;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use ctkeeper_flow::units;
use ctkeeper_host::settings::{self, RunningValues};
use ctkeeper_host::sysctl::{self, LimitsAccess};
use ctkeeper_observe::{DEFAULT_NOTE, Observer, Options};
use ctkeeper_remedy::{
    Access, Change, ChangeState, Hands, Persist, Plan, Progress, Recovered, Refusal, Request, Root,
};
use ctkeeper_snapshot::{ModuleState, Settings, Snapshot};
use serde_json::json;

use crate::cli::Global;
use crate::exit::{self, UsageError};
use crate::ui::{Screen, say};

/// Name and version of what `--json` prints.
const SCHEMA: &str = "ctkeeper.fix/1";

/// Options of `ctkeeper fix`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  ctkeeper fix                 plan, explain, ask, apply, keep it after reboot
  ctkeeper fix --yes           the same without asking
  ctkeeper fix --target 600k   a limit of your own
  ctkeeper fix --persist       keep what runs after reboot; running values stay
  ctkeeper fix --undo          take the last change back, files too
  ctkeeper fix --emit ansible  for hosts that are managed elsewhere

Exit codes: 0 done, or nothing to do; 1 refused, or failed (the message says whether everything is
as before); 4 plan printed and not applied; 64 wrong command line. A reader that goes away
(`fix --yes | head`) stops no change and hides no outcome.
A failure or a kill half-way is taken back, by the next run if need be. What each change found is
kept in /var/lib/ctkeeper/journal.")]
pub(crate) struct FixArgs {
    /// The limit wanted, in entries: 600000, 600k, 1M, 512Ki [default: chosen, and explained]
    #[arg(long, value_name = "N", value_parser = values::entries)]
    target: Option<u64>,

    /// The share of free memory that connection tracking may take
    ///
    /// A limit is raised only if all that it may take fits. Where the running limit does not fit as
    /// it is, buckets are still raised if they fit by themselves: too few refuse connections before
    /// the limit does.
    #[arg(long, value_name = "PERCENT", default_value = "10%", value_parser = values::share)]
    memory_share: f64,

    /// How far ahead growth is reckoned with
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = units::parse_duration)]
    horizon: Duration,

    /// Write only the files that keep the values after a reboot; running values stay
    #[arg(long, conflicts_with = "no_persist")]
    persist: bool,

    /// Change only running values; a reboot forgets them
    #[arg(long)]
    no_persist: bool,

    /// Apply without asking
    #[arg(long, short)]
    yes: bool,

    /// Print the plan, apply nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,

    /// Take a change back: the last one, or the one named
    #[arg(
        long, value_name = "ID", num_args = 0..=1, value_parser = NonEmptyStringValueParser::new(),
        conflicts_with_all = ["target", "persist", "no_persist", "dry_run", "emit", "history"]
    )]
    #[expect(clippy::option_option, reason = "not given, given without a name, given with one")]
    undo: Option<Option<String>>,

    /// With --undo, or after a crash: put back over changes of others; a copy of theirs is kept
    #[arg(long)]
    force: bool,

    /// List the changes that were made
    #[arg(long, conflicts_with_all = ["target", "persist", "no_persist", "dry_run", "emit"])]
    history: bool,

    /// Work on the files below this folder instead of /; running values stay
    #[arg(long, value_name = "DIR", default_value = "/", hide_default_value = true)]
    root: PathBuf,

    /// Print files for hosts that are managed elsewhere; nothing is changed
    #[arg(long, value_name = "FORMAT", conflicts_with = "yes")]
    emit: Option<Format>,
}

/// What `--emit` prints.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// /etc/sysctl.d/zz-ctkeeper.conf, with what it needs beside it
    Sysctl,
    /// A #cloud-config part with all files
    CloudInit,
    /// A playbook
    Ansible,
    /// conntrack.min and maxPerCore, with their traps
    KubeProxy,
}

impl From<Format> for ctkeeper_remedy::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Sysctl => Self::Sysctl,
            Format::CloudInit => Self::CloudInit,
            Format::Ansible => Self::Ansible,
            Format::KubeProxy => Self::KubeProxy,
        }
    }
}

/// Plans, explains, applies; or undoes; or tells what was done.
pub(crate) fn run(args: &FixArgs, global: &Global) -> anyhow::Result<ExitCode> {
    if global.netns.is_some() {
        let text = "limit and buckets are the whole host's: fix takes no --netns".to_owned();
        return Err(UsageError(text).into());
    }
    let root = Root::open(&args.root).context("the folder given by --root")?;
    let screen = Screen::stdout(global.color);
    let fix = Fix { args, root, json: global.json, screen, unsaid: Cell::new(None) };
    let result = match (&args.undo, args.history, args.emit) {
        (Some(id), ..) => fix.undo(id.as_deref()),
        (_, true, _) => fix.history(),
        (.., Some(format)) => fix.emit(format),
        _ => fix.plan_and_apply(),
    };
    if let (true, Err(error)) = (global.json, &result)
        && !error.is::<io::Error>()
    {
        let outcome = if error.is::<Refusal>() { "refused" } else { "failed" };
        let error = format!("{error:#}");
        fix.say_json(&json!({"schema": SCHEMA, "outcome": outcome, "error": error}));
    }
    result
}

struct Fix<'a> {
    args: &'a FixArgs,
    root: Root,
    json: bool,
    screen: Screen,
    /// Why standard output takes no more. Whether anybody listens must neither stop a change nor
    /// hide what became of it.
    unsaid: Cell<Option<io::Error>>,
}

impl Fix<'_> {
    fn plan_and_apply(&self) -> anyhow::Result<ExitCode> {
        let recovered = if self.args.dry_run { Vec::new() } else { self.recover()? };
        let snapshot = self.look(true).map_err(anyhow::Error::msg)?;
        let plan = ctkeeper_remedy::plan(&snapshot, &self.request())?;
        self.show(&plan, &snapshot, &recovered);
        if plan.is_nothing() {
            return self.end("nothing-to-do", &plan, None, exit::OK);
        }
        if !self.may_apply()? {
            return self.end("planned", &plan, None, exit::NOT_APPLIED);
        }
        if self.access() == LimitsAccess::NoPrivilege {
            return Err(Refusal::NoPrivilege.into());
        }
        let change = self.with_hands(|hands| ctkeeper_remedy::apply(&plan, hands))?;
        self.end("applied", &plan, Some(&change), exit::OK)
    }

    fn undo(&self, id: Option<&str>) -> anyhow::Result<ExitCode> {
        if self.access() == LimitsAccess::NoPrivilege {
            return Err(Refusal::NoPrivilege.into());
        }
        self.recover_loudly()?;
        let force = self.args.force;
        let change = self.with_hands(|hands| ctkeeper_remedy::undo(id, force, hands))?;
        if self.json {
            self.say_json(&json!({"schema": SCHEMA, "outcome": "undone", "change": change}));
        } else {
            self.say(|out| draw::undone(out, &self.screen, &change));
        }
        self.conclude(exit::OK, || format!("change {} is undone", change.id))
    }

    fn history(&self) -> anyhow::Result<ExitCode> {
        let changes = ctkeeper_remedy::changes(&self.root)?;
        if self.json {
            print_json(&json!({"schema": SCHEMA, "outcome": "history", "changes": changes}))?;
        } else {
            draw::history(&mut io::stdout().lock(), &self.screen, &changes)?;
        }
        Ok(ExitCode::from(exit::OK))
    }

    fn emit(&self, format: Format) -> anyhow::Result<ExitCode> {
        let snapshot = self.look(false).map_err(anyhow::Error::msg)?;
        let mut request = Request { access: Access::Elsewhere, ..self.request() };
        if snapshot.limits.is_none() || snapshot.namespaces.is_empty() {
            // Nothing to choose from is no obstacle to what the user, or a file, asks for.
            request.persist = Persist::FilesOnly;
        }
        let plan = ctkeeper_remedy::plan(&snapshot, &request)?;
        if let Some(part) = &plan.partial_view {
            say!("ctkeeper: warning: the size was chosen from a partial view: {part}");
        }
        let text = ctkeeper_remedy::emit(&plan, format.into());
        if self.json {
            print_json(
                &json!({"schema": SCHEMA, "outcome": "emitted", "plan": plan, "text": text}),
            )?;
        } else {
            io::stdout().write_all(text.as_bytes())?;
        }
        Ok(ExitCode::from(exit::OK))
    }

    fn request(&self) -> Request {
        let persist = if self.args.persist || !self.root.is_host() {
            Persist::FilesOnly
        } else if self.args.no_persist {
            Persist::Running
        } else {
            Persist::Both
        };
        let access = match self.access() {
            _ if !self.root.is_host() => Access::Elsewhere,
            LimitsAccess::ReadOnlyMount => Access::ReadOnly,
            // Who may not apply a plan may still read it.
            _ => Access::Writable,
        };
        Request {
            target: self.args.target,
            memory_share: self.args.memory_share,
            persist,
            growth_horizon: self.args.horizon,
            changed_at: self.changed_at(),
            access,
        }
    }

    /// Where only files change, being root is what it takes.
    fn access(&self) -> LimitsAccess {
        if !self.root.is_host() {
            return LimitsAccess::Writable;
        }
        if !rustix::process::geteuid().is_root() {
            return LimitsAccess::NoPrivilege;
        }
        sysctl::limits_access()
    }

    /// When ctkeeper last changed running values in this boot.
    fn changed_at(&self) -> Option<u64> {
        let boot = ctkeeper_host::machine::boot_id()?;
        let changes = ctkeeper_remedy::changes(&self.root).ok()?;
        let mut made = changes.iter().rev().filter(|change| change.state == ChangeState::Done);
        let last = made.find(|change| change.boot_id == boot && !change.running.is_empty())?;
        Some(last.began_boottime_ms)
    }

    /// Under another root, nothing is known of the kernel that will read the files there: they are
    /// made for one that has connection tracking as a module, and have to hold for one that has it
    /// built in as well.
    fn look(&self, noted: bool) -> Result<Snapshot, String> {
        let note = (noted && self.root.is_host()).then(|| PathBuf::from(DEFAULT_NOTE));
        let root = self.root.path().to_owned();
        // The note is doctor's: what it saw moving since is to be seen by the next doctor as well.
        let options = Options { note, leave_note: false, root, sample: 0, ..Options::default() };
        let mut snapshot = Observer::new(options).snapshot().map_err(|error| error.to_string())?;
        if !self.root.is_host() {
            snapshot.module = ModuleState::Loaded;
            snapshot.settings = self.settings_for(ModuleState::Loaded, &snapshot);
            let built_in = self.settings_for(ModuleState::BuiltIn, &snapshot);
            snapshot.settings.forecasts.extend(built_in.forecasts);
        }
        Ok(snapshot)
    }

    /// What the files below the root say to a kernel like this one, with connection tracking so.
    fn settings_for(&self, module: ModuleState, snapshot: &Snapshot) -> Settings {
        let running = RunningValues {
            limits: snapshot.limits,
            module,
            memory_total: snapshot.memory.total,
            kernel_release: snapshot.taken.kernel.clone(),
        };
        settings::read(self.root.path(), &running).0
    }

    fn with_hands<T>(
        &self,
        act: impl FnOnce(&mut Hands<'_>) -> Result<T, ctkeeper_remedy::Error>,
    ) -> anyhow::Result<T> {
        let mut hands = Hands {
            root: &self.root,
            by: by(),
            observe: &mut || self.look(false),
            progress: &mut |step| self.report(step),
        };
        Ok(act(&mut hands)?)
    }

    /// Ends what a crash left, before anything else.
    fn recover(&self) -> anyhow::Result<Vec<Recovered>> {
        if self.access() == LimitsAccess::NoPrivilege {
            return Ok(Vec::new());
        }
        self.with_hands(|hands| ctkeeper_remedy::recover(self.args.force, hands))
    }

    fn recover_loudly(&self) -> anyhow::Result<()> {
        let recovered = self.recover()?;
        if !self.json {
            self.say_recovered(&recovered);
        }
        Ok(())
    }

    /// Progress goes to standard error in JSON mode, so that standard output stays JSON.
    fn report(&self, step: &Progress) {
        if self.json {
            // A closed pipe must not stop a change half-way.
            let _ = draw::progress(&mut io::stderr().lock(), &self.screen, step);
        } else {
            self.say(|out| draw::progress(out, &self.screen, step));
        }
    }

    fn show(&self, plan: &Plan, snapshot: &Snapshot, recovered: &[Recovered]) {
        if self.json {
            return;
        }
        self.say_recovered(recovered);
        self.say(|out| draw::plan(out, &self.screen, plan, &snapshot.taken.hostname));
    }

    fn say_recovered(&self, recovered: &[Recovered]) {
        self.say(|out| {
            recovered.iter().try_for_each(|one| draw::recovered(out, &self.screen, one))
        });
    }

    fn say_json(&self, value: &serde_json::Value) {
        self.say(|out| writeln!(out, "{value:#}"));
    }

    /// Writes to standard output, as long as it takes anything.
    fn say(&self, write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) {
        let unsaid = self.unsaid.take().or_else(|| {
            let mut out = io::stdout().lock();
            write(&mut out).and_then(|()| out.flush()).err()
        });
        self.unsaid.set(unsaid);
    }

    /// The exit code of an outcome that was told. A reader that stopped reading wanted no more; any
    /// other failure to tell is one.
    fn conclude(&self, code: u8, outcome: impl Fn() -> String) -> anyhow::Result<ExitCode> {
        match self.unsaid.take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => {
                anyhow::bail!("{}; telling so on standard output failed: {error}", outcome())
            }
            _ => Ok(ExitCode::from(code)),
        }
    }

    fn is_silenced(&self) -> bool {
        let error = self.unsaid.take();
        let silenced = error.is_some();
        self.unsaid.set(error);
        silenced
    }

    fn may_apply(&self) -> io::Result<bool> {
        if self.args.yes || self.args.dry_run || self.json {
            return Ok(self.args.yes);
        }
        // Nobody agrees to a plan that could not be shown.
        if self.is_silenced() || !(self.screen.is_terminal() && io::stdin().is_terminal()) {
            return Ok(false);
        }
        let mut out = io::stdout().lock();
        write!(out, "Apply? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    fn end(
        &self,
        outcome: &str,
        plan: &Plan,
        change: Option<&Change>,
        code: u8,
    ) -> anyhow::Result<ExitCode> {
        if self.json {
            let applied = json!({
                "schema": SCHEMA, "outcome": outcome, "plan": plan, "change": change,
            });
            self.say_json(&applied);
        } else {
            let asked = self.args.dry_run || self.screen.is_terminal();
            self.say(|out| draw::end(out, &self.screen, plan, change, asked));
        }
        self.conclude(code, || match change {
            Some(change) => format!("change {} was made and holds", change.id),
            None => "nothing was changed".to_owned(),
        })
    }
}

fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{}", serde_json::to_string_pretty(value)?)?)
}

/// For whom the change is made: `root (sudo by alice)`.
fn by() -> String {
    let user = rustix::process::geteuid();
    let name = if user.is_root() { "root".to_owned() } else { format!("uid {}", user.as_raw()) };
    match std::env::var("SUDO_USER") {
        Ok(sudo) if !sudo.is_empty() => format!("{name} (sudo by {sudo})"),
        _ => name,
    }
}
