//! The thread that looks: it may be stuck in the kernel or in /proc without holding up the drain's own deadline.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::engine::Message;
use super::machine::Depth;
use super::target::{Programs, watched};
use crate::config::{PoolSpec, ProbeSpec, Settings, SettleSettings, WatchSettings};
use crate::evidence::arrivals::Origin;
use crate::evidence::probe::{Beside, Kept};
use crate::evidence::{Glance, Listener, LocalListener, Poller, Role, Watch};
use crate::probes::Asked;
use crate::receipts::TargetMark;
use crate::systemd::UnitState;
use crate::world::Root;

/// What the target listens on is looked up again this often: a program may have been restarted.
const REDISCOVER: Duration = Duration::from_secs(5);
/// And takes one part in this many of the time at most: every open file of the target is looked at.
const REDISCOVER_SHARE: u32 = 200;

/// A poller that can't be told from a lone client is named after so long.
const DOUBT: Duration = Duration::from_secs(8);

/// What it found before its first look.
#[derive(Debug)]
pub struct Seen {
    /// The names of what is watched.
    pub units: Vec<String>,
    /// What it listens on.
    pub listeners: Vec<Listener>,
    /// And the Unix sockets.
    pub locals: Vec<LocalListener>,
    /// What rejoin has to wait for.
    pub mark: TargetMark,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// What it is told.
#[derive(Clone, Debug)]
pub struct Looker {
    /// The file system.
    root: Root,
    /// The target's units.
    units: Vec<UnitState>,
    /// How connections are judged.
    settings: WatchSettings,
    /// How long silence must last.
    settle: SettleSettings,
    /// The pools: those with an agent on this host have health checks that are no traffic.
    pools: Vec<PoolSpec>,
    /// What is asked beside the sockets.
    probes: Vec<ProbeSpec>,
    /// What is spoken on the target's ports.
    kept: Kept,
}

impl Looker {
    /// Looks at what `units` listen on, as `settings` say.
    #[must_use]
    pub fn new(root: &Root, units: &[UnitState], settings: &Settings, kept: Kept) -> Self {
        Self {
            root: root.clone(),
            units: units.to_vec(),
            settings: settings.watch.clone(),
            settle: settings.settle,
            pools: settings.pools.clone(),
            probes: settings.probes.clone(),
            kept,
        }
    }

    /// What is watched in a drain that began at `began`; nothing is found yet.
    ///
    /// # Errors
    /// The kernel does not answer sock_diag.
    pub fn watch(&self, began: Instant) -> anyhow::Result<Watch> {
        let ports = self.pools.iter().filter_map(local_port).collect();
        Watch::new(
            &self.root,
            watched(&self.units),
            &self.settings,
            self.settle,
            self.kept.clone(),
            ports,
            began,
        )
    }

    /// Starts the thread; one look is answered for each depth sent. It ends with the sender.
    pub fn start(self, tell: Sender<Message>) -> Sender<Depth> {
        let (ask, asked) = channel();
        std::thread::spawn(move || self.run(&asked, &tell));
        ask
    }

    fn run(self, asked: &Receiver<Depth>, tell: &Sender<Message>) {
        let programs = Programs::ask(&self.root, &self.units);
        let mut eye = Eye::new(self, programs);
        while let Ok(depth) = asked.recv() {
            if tell.send(Message::Look(eye.answer(depth, tell))).is_err() {
                return;
            }
        }
    }
}

/// The state of the thread.
struct Eye {
    looker: Looker,
    programs: Programs,
    began: Instant,
    /// With the instant at which it is to look again for what the target listens on.
    watch: Option<(Watch, Instant)>,
    /// What it watched when a look failed.
    failed: Option<Watch>,
    told: bool,
    asked: Asked,
    /// What is asked of ports that nobody has asked before.
    beside: Beside,
    /// At the last look nothing but the probes held the drain.
    counting: bool,
    /// Those who poll, and what was said of them.
    pollers: HashMap<(Origin, u16), Said>,
}

/// What an operator has heard of a poller.
struct Said {
    since: Instant,
    told_apart: bool,
    in_doubt: bool,
}

impl Eye {
    fn new(looker: Looker, programs: Programs) -> Self {
        Self {
            asked: Asked::new(&looker.root, &looker.probes),
            beside: Beside::default(),
            counting: false,
            looker,
            programs,
            began: Instant::now(),
            watch: None,
            failed: None,
            told: false,
            pollers: HashMap::new(),
        }
    }

    /// Looks. A socket that failed is opened again; what was remembered of the connections goes with it, but not what is watched.
    fn answer(&mut self, depth: Depth, tell: &Sender<Message>) -> anyhow::Result<Glance> {
        let answer = self.look(depth, tell);
        if answer.is_err()
            && let Some((watch, _)) = self.watch.take()
        {
            self.failed = Some(watch);
        }
        answer
    }

    fn look(&mut self, depth: Depth, tell: &Sender<Message>) -> anyhow::Result<Glance> {
        if depth == Depth::Oldest && self.counting {
            let counted = self.asked.count();
            let holds = counted.iter().filter(|one| one.count != Ok(0));
            if let Some(age) = holds.map(|one| one.age).max() {
                return Ok(Glance::StillBusy(age));
            }
        }
        let mut glance = self.look_at_sockets(depth, tell)?;
        // While the sockets hold the drain, nobody is asked.
        self.counting = false;
        if let Glance::Whole(looked, ..) = &mut glance
            && looked.busy == 0
        {
            looked.add(self.asked.count());
            self.counting = looked.busy > 0;
        }
        Ok(glance)
    }

    fn look_at_sockets(&mut self, depth: Depth, tell: &Sender<Message>) -> anyhow::Result<Glance> {
        let Looker { root, units, .. } = &self.looker;
        let name = |pid| self.programs.name(root, pid);
        let (watch, rediscover) = match &mut self.watch {
            Some(watch) => watch,
            none => {
                let mut watch = self.looker.watch(self.began)?;
                if let Some(failed) = &self.failed {
                    watch.take_over(failed);
                }
                let found = watch.discover(&name)?;
                self.failed = None;
                if !self.told {
                    self.told = true;
                    // A proxy before the target is not the target's to bring back, and what it closed it may not want back.
                    let own = watch.listeners().iter().filter(|l| l.role == Role::Own);
                    let ports = own.map(|l| l.local.port()).collect();
                    let sockets = watch.locals().iter().map(|l| l.name.clone()).collect();
                    let _ = tell.send(Message::Seen(Box::new(Seen {
                        units: units.iter().map(|unit| unit.id.clone()).collect(),
                        listeners: watch.listeners().to_vec(),
                        locals: watch.locals().to_vec(),
                        mark: self.programs.mark(units, ports, sockets),
                        notes: self
                            .programs
                            .notes
                            .iter()
                            .cloned()
                            .chain(found.notes)
                            .collect(),
                    })));
                }
                none.insert((watch, Instant::now() + REDISCOVER))
            }
        };
        let began = Instant::now();
        if depth == Depth::Whole && began >= *rediscover {
            watch.discover(&name)?;
            let pause = REDISCOVER.max(began.elapsed() * REDISCOVER_SHARE);
            *rediscover = Instant::now() + pause;
        }
        for (listener, spoken) in self.beside.heard() {
            watch.hear(&listener, spoken);
        }
        let settings = &self.looker.settings;
        let unset = |one: &&Listener| !settings.ports.contains_key(&one.local.port());
        let listeners = watch.listeners().iter().filter(unset);
        let ends = self.beside.ask(listeners, watch.kept());
        watch.add_own_ends(ends);
        let glance = watch.look(depth)?;
        if let Glance::Whole(_, traffic, _) = &glance {
            for text in self.news_of(&traffic.pollers) {
                let _ = tell.send(Message::Note(text));
            }
        }
        Ok(glance)
    }

    /// What is to be said of those who poll, once each.
    fn news_of(&mut self, pollers: &[Poller]) -> Vec<String> {
        let mut news = Vec::new();
        for poller in pollers {
            let (from, port) = (poller.from, poller.port);
            let said = self.pollers.entry((from, port)).or_insert(Said {
                since: Instant::now(),
                told_apart: false,
                in_doubt: false,
            });
            let every = poller.period.as_secs_f64();
            if poller.told_apart && !said.told_apart {
                said.told_apart = true;
                news.push(format!(
                    "{from} polls port {port} every {every:.1} s, and went on when all others had stopped: not counted as arriving"
                ));
            } else if poller.alone
                && !said.told_apart
                && !said.in_doubt
                && said.since.elapsed() > DOUBT
            {
                said.in_doubt = true;
                news.push(format!(
                    "{from} sends port {port} the same request every {every:.1} s; if it is a check, name it in [watch] ignore, and the \
                     settle takes no account of it"
                ));
            }
        }
        news
    }
}

/// The port on which a pool's Consul agent listens on this host; it checks the programs' health, and that is no traffic.
fn local_port(pool: &PoolSpec) -> Option<u16> {
    // Another server that a config names by its address may well send requests.
    if pool.kind != "consul" {
        return None;
    }
    let address = pool.settings.get("address")?.as_str()?;
    let rest = address
        .strip_prefix("http://")
        .or_else(|| address.strip_prefix("https://"))?;
    let (host, port) = rest.split('/').next()?.rsplit_once(':')?;
    let local = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
    if local { port.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpStream;
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::drain::target::process;

    /// Closes its listener when told to, and never answers.
    const SERVER: &str = "import socket,sys
s=socket.create_server(('127.0.0.1',0))
print(s.getsockname()[1],flush=True)
c,_=s.accept(); sys.stdin.readline(); s.close(); print(flush=True); sys.stdin.readline()";

    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn busy(glance: anyhow::Result<Glance>) -> u64 {
        match glance.unwrap() {
            Glance::Whole(looked, ..) => looked.busy,
            Glance::StillBusy(_) => 1,
        }
    }

    #[test]
    fn after_a_look_that_failed_a_closed_listener_is_still_watched() {
        let python = Command::new("python3")
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = python else {
            eprintln!(
                "SKIPPED after_a_look_that_failed_a_closed_listener_is_still_watched: needs python3"
            );
            return;
        };
        let mut says = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut hears = child.stdin.take().unwrap();
        let server = Server(child);
        let port: u16 = says.next().unwrap().unwrap().parse().unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        client.write_all(b"?").unwrap();
        // A host whose /proc can be taken away.
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let table = root.path("/proc");
        symlink("/proc", &table).unwrap();
        let units = process(&root, server.0.id(), "web");
        let looker = Looker::new(&root, &units, &Settings::default(), Kept::default());
        let mut eye = Eye::new(looker, Programs::default());
        let (tell, _told) = channel();
        assert_eq!(busy(eye.answer(Depth::Whole, &tell)), 1);
        hears.write_all(b"\n").unwrap();
        says.next();
        std::fs::remove_file(&table).unwrap();
        eye.watch.as_mut().unwrap().1 = Instant::now();
        assert!(eye.answer(Depth::Whole, &tell).is_err());
        assert!(eye.answer(Depth::Whole, &tell).is_err());
        symlink("/proc", &table).unwrap();
        assert_eq!(busy(eye.answer(Depth::Whole, &tell)), 1);
    }
}
