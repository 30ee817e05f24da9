//! The real binary as a process of its own: for what only a process shows, such as its death, its
//! memory and its CPU time. Killed when dropped.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::watch;

use super::LIMIT;

/// Linux counts CPU time for user space in hundredths of a second, on every architecture
/// (`USER_HZ`, proc_pid_stat(5)).
const TICK: Duration = Duration::from_millis(10);

/// A running `larder serve`.
#[derive(Debug)]
pub(crate) struct Larder {
    child: Child,
    addr: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    /// Turns true when the process has closed its standard error, which it does by ending.
    closed: watch::Receiver<bool>,
}

impl Larder {
    /// Starts `larder serve` on a free port with these further arguments and this environment, and
    /// nothing of the caller's environment.
    ///
    /// # Panics
    /// Where it does not come to listen; with its log.
    pub(crate) fn serve(args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(args)
            .env_clear()
            .envs(env.iter().copied())
            .env("RUST_BACKTRACE", "1");
        Self::start(command)
    }

    /// Starts any command that logs as Larder does.
    ///
    /// # Panics
    /// Where it does not come to listen; with its log.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let log = Arc::new(Mutex::default());
        let (found, listening) = mpsc::channel();
        let (closing, closed) = watch::channel(false);
        let shared = Arc::clone(&log);
        // Ends with the process, whose standard error then closes.
        drop(std::thread::spawn(move || {
            drain(stderr, &shared, &found);
            closing.send_replace(true);
        }));
        // An end of the log without an address is as final as silence.
        match listening.recv_timeout(LIMIT) {
            Ok(addr) => Self { child, addr, log, closed },
            Err(why) => {
                drop((child.kill(), child.wait()));
                panic!("{command:?} does not listen ({why}); its log:\n{}", lines(&log).join("\n"));
            }
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        lines(&self.log)
    }

    /// SIGKILL, and gone when this returns.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("the killed process");
    }

    /// SIGTERM; [`Larder::ended`] waits for the end.
    pub(crate) fn terminate(&mut self) {
        self.signal("TERM");
    }

    /// SIGSTOP: alive, and answering nothing.
    pub(crate) fn pause(&mut self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self) {
        self.signal("CONT");
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// Where it goes on for longer than `limit`; with its log.
    pub(crate) async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let closed = tokio::time::timeout(limit, self.closed.wait_for(|closed| *closed)).await.is_ok();
        assert!(closed, "still running after {limit:?}; its log:\n{}", self.log().join("\n"));
        self.child.wait().expect("the ended process")
    }

    /// Memory that it holds now, KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it ever held, KiB.
    pub(crate) fn peak_rss_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// CPU time that it has used, in user space and in the kernel, all threads; to 10 ms.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = self.proc("stat");
        // The name, in parentheses, may hold anything; user and system time are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(") ").expect("a name in /proc/PID/stat");
        let ticks: u32 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        TICK * ticks
    }

    fn status(&self, field: &str) -> u64 {
        let status = self.proc("status");
        let line =
            status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of /proc/PID/status");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid())).expect("a live process")
    }

    /// Through the shell's own `kill`: the command of that name is not on every machine.
    fn signal(&mut self, name: &str) {
        // Once it was waited for, its number may be another's.
        let ended = self.child.try_wait().expect("a child's state");
        assert_eq!(ended, None, "ended before SIG{name}; its log:\n{}", self.log().join("\n"));
        let script = format!("kill -{name} {}", self.pid());
        let status = Command::new("/bin/sh").args(["-c", &script]).status().expect("a shell");
        assert!(status.success(), "{script}: {status}");
    }
}

impl Drop for Larder {
    fn drop(&mut self) {
        // Neither is of use to anybody where it fails.
        drop((self.child.kill(), self.child.wait()));
        if std::thread::panicking() {
            let log = self.log();
            let last = log.len().saturating_sub(100);
            eprintln!("--- the log of larder ({}), its end:\n{}\n---", self.pid(), log[last..].join("\n"));
        }
    }
}

/// Keeps every line, and sends the address when the log says it.
fn drain(stderr: ChildStderr, log: &Mutex<Vec<String>>, found: &mpsc::Sender<SocketAddr>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        let addr = listen_addr(&line);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        if let Some(addr) = addr {
            // Only the first is waited for.
            found.send(addr).ok();
        }
    }
}

fn lines(log: &Mutex<Vec<String>>) -> Vec<String> {
    log.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The address in the one line that says it, whether or not its fields are flattened.
fn listen_addr(line: &str) -> Option<SocketAddr> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let fields = event.get("fields").unwrap_or(&event);
    if fields.get("message")?.as_str()? != "larder is listening" {
        return None;
    }
    fields.get("listen")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Command, Duration, Larder, SocketAddr, listen_addr};

    /// A stand-in that logs as Larder does and then runs `then`.
    fn stand_in(then: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!(
            "echo warming up >&2
             echo '{{\"level\":\"INFO\",\"fields\":{{\"message\":\"larder is listening\",\"listen\":\"127.0.0.1:4711\"}}}}' >&2
             {then}"
        ));
        command
    }

    #[test]
    fn the_address_is_read_from_either_form_of_the_line() {
        let addr: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let nested = r#"{"fields":{"message":"larder is listening","listen":"127.0.0.1:80"}}"#;
        let flat = r#"{"message":"larder is listening","listen":"127.0.0.1:80","store":"dir"}"#;
        assert_eq!(listen_addr(nested), Some(addr));
        assert_eq!(listen_addr(flat), Some(addr));
        assert_eq!(listen_addr(r#"{"message":"something else","listen":"127.0.0.1:80"}"#), None);
        assert_eq!(listen_addr("not JSON"), None);
    }

    #[tokio::test]
    async fn a_process_is_watched_and_ended() {
        let mut larder =
            Larder::start(stand_in("trap 'exit 7' TERM; while :; do read x </proc/self/stat; done"));
        assert_eq!(larder.addr().port(), 4711);
        assert_eq!(larder.log()[0], "warming up");
        assert!(larder.rss_kib() > 0 && larder.peak_rss_kib() > 0);
        while larder.cpu_time() < Duration::from_millis(20) {
            tokio::task::yield_now().await;
        }
        larder.pause();
        larder.resume();
        larder.terminate();
        assert_eq!(larder.ended(Duration::from_secs(20)).await.code(), Some(7));
    }

    #[test]
    fn a_killed_process_is_gone() {
        let mut larder = Larder::start(stand_in("exec sleep 60"));
        larder.kill9();
        assert!(!std::path::Path::new(&format!("/proc/{}", larder.pid())).exists());
    }

    #[test]
    #[should_panic(expected = "does not listen")]
    fn a_wrong_flag_is_not_waited_out() {
        drop(Larder::serve(&["--no-such-flag"], &[("HOME", "/nonexistent")]));
    }

    #[test]
    #[should_panic(expected = "no such store")]
    fn a_process_that_does_not_come_up_fails_with_its_log() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no such store >&2; exit 1"]);
        drop(Larder::start(command));
    }
}
