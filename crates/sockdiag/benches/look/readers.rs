//! The ways to look.

use crate::Result;
use crate::scene::OURS;
use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
use sockdiag::{Family, Info, Query, Row, Socket, States, TcpState, wire};
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Looks of one process.
const LOOKS: usize = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Floor,
    Bare,
    Dump,
    BarePort,
    Port,
    Cgroup,
    Lookup,
    Ss,
    Proc,
}

impl Reader {
    pub(crate) const ALL: [Self; 9] = [
        Self::Floor,
        Self::Bare,
        Self::Dump,
        Self::BarePort,
        Self::Port,
        Self::Cgroup,
        Self::Lookup,
        Self::Ss,
        Self::Proc,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Bare => "bare",
            Self::Dump => "dump",
            Self::BarePort => "bare-port",
            Self::Port => "port",
            Self::Cgroup => "cgroup",
            Self::Lookup => "lookup",
            Self::Ss => "ss",
            Self::Proc => "proc",
        }
    }

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Floor => "bare receive loop, no tcp_info asked for",
            Self::Bare => "bare receive loop, nothing parsed",
            Self::Dump => "sockdiag, all sockets, evidence read",
            Self::BarePort => "bare receive loop, ours by port",
            Self::Port => "sockdiag, ours by port in the kernel",
            Self::Cgroup => "sockdiag, ours by cgroup in the kernel",
            Self::Lookup => "sockdiag, ours looked up one by one",
            Self::Ss => "ss -tniH",
            Self::Proc => "/proc/net/tcp as wait_for reads it, in Rust",
        }
    }
}

/// What a look took.
#[derive(Clone, Copy)]
pub(crate) struct Look {
    pub(crate) wall: Duration,
    /// User and system time.
    pub(crate) cpu: Duration,
    pub(crate) rows: usize,
    /// Peak memory of the process, KiB.
    pub(crate) peak: u64,
}

impl Look {
    pub(crate) fn best(self, other: Self) -> Self {
        Self {
            wall: self.wall.min(other.wall),
            cpu: self.cpu.min(other.cpu),
            rows: self.rows,
            peak: self.peak.max(other.peak),
        }
    }

    fn encode(&self) -> String {
        let (wall, cpu) = (self.wall.as_nanos(), self.cpu.as_nanos());
        format!("{wall} {cpu} {} {}", self.rows, self.peak)
    }

    pub(crate) fn decode(line: &str) -> Result<Self> {
        let [wall, cpu, rows, peak] = line.split_whitespace().collect::<Vec<_>>()[..] else {
            return Err(format!("unexpected: {line}").into());
        };
        Ok(Self {
            wall: Duration::from_nanos(wall.parse()?),
            cpu: Duration::from_nanos(cpu.parse()?),
            rows: rows.parse()?,
            peak: peak.parse()?,
        })
    }
}

/// A process of its own: looks a few times and prints the best.
pub(crate) fn read(name: &str, cgroup: u64) -> Result<()> {
    let reader = Reader::ALL.into_iter().find(|reader| reader.name() == name);
    let all = Query::default();
    let ours = Query {
        ports: &[OURS],
        ..all
    };
    let look = match reader.ok_or("unknown reader")? {
        Reader::Floor => best_of(bare_loop(Query { info: false, ..all })?)?,
        Reader::Bare => best_of(bare_loop(all)?)?,
        Reader::Dump => best_of(dump(all)?)?,
        Reader::BarePort => best_of(bare_loop(ours)?)?,
        Reader::Port => best_of(dump(ours)?)?,
        Reader::Cgroup => best_of(dump(Query {
            cgroups: &[cgroup],
            ..all
        })?)?,
        Reader::Lookup => best_of(lookup()?)?,
        Reader::Proc => best_of(proc_net_tcp)?,
        Reader::Ss => ss()?,
    };
    println!("{}", look.encode());
    Ok(())
}

fn best_of(mut look: impl FnMut() -> Result<usize>) -> Result<Look> {
    let mut best: Option<Look> = None;
    for _ in 0..LOOKS {
        let (wall, cpu) = (Instant::now(), cpu_time(libc::RUSAGE_SELF)?);
        let rows = look()?;
        let look = Look {
            wall: wall.elapsed(),
            cpu: cpu_time(libc::RUSAGE_SELF)?.saturating_sub(cpu),
            rows,
            peak: peak("self")?,
        };
        best = Some(best.map_or(look, |best| best.best(look)));
    }
    best.ok_or_else(|| "no look".into())
}

/// The least that any reader can do: the same requests, each datagram received into one buffer, none read.
fn bare_loop(query: Query<'_>) -> Result<impl FnMut() -> Result<usize>> {
    let fd = socket(AddressFamily::NETLINK, SocketType::RAW, Some(SOCK_DIAG))?;
    let mut buffer = vec![0; sockdiag::BUFFER];
    Ok(move || {
        for family in [Family::V4, Family::V6] {
            let request = wire::dump_request(&query, family, 1)?;
            sendto(
                &fd,
                &request,
                SendFlags::empty(),
                &SocketAddrNetlink::new(0, 0),
            )?;
            // The end of a dump comes as a datagram of its own.
            loop {
                recv(&fd, &mut buffer[..], RecvFlags::TRUNC)?;
                if buffer[4..6] == wire::DONE.to_ne_bytes() {
                    break;
                }
            }
        }
        Ok(0)
    })
}

/// What a verdict on a connection reads.
fn evidence(row: &Row<'_>) {
    let Row {
        id,
        state,
        rqueue,
        wqueue,
        shutdown,
        ..
    } = row;
    black_box((
        id.cookie(),
        id.local().port(),
        state,
        rqueue,
        wqueue,
        shutdown,
    ));
    let info = row.info.unwrap_or(Info::new(&[]));
    black_box((
        info.last_data_sent(),
        info.last_data_recv(),
        info.last_ack_recv(),
    ));
    black_box((info.bytes_sent(), info.bytes_received()));
    black_box((info.segs_out(), info.data_segs_out(), info.notsent_bytes()));
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn dump(query: Query<'_>) -> Result<impl FnMut() -> Result<usize>> {
    let mut socket = Socket::open()?;
    Ok(move || {
        let count = socket.dump(
            &query,
            soon(),
            || 0,
            |count, row| {
                evidence(row);
                *count += 1;
            },
        );
        Ok(count?)
    })
}

fn lookup() -> Result<impl FnMut() -> Result<usize>> {
    let mut socket = Socket::open()?;
    let query = Query {
        ports: &[OURS],
        states: States::of(&[TcpState::Established]),
        ..Query::default()
    };
    let ids = socket.dump(&query, soon(), Vec::new, |ids, row| ids.push(row.id))?;
    Ok(move || {
        let mut count = 0;
        socket.lookup(&ids, true, soon(), |_, row| {
            row.into_iter().for_each(evidence);
            count += 1;
        })?;
        Ok(count)
    })
}

/// Ansible's `wait_for state=drained`: all lines in memory, each split at white space, then its port compared. In Python,
/// as Ansible does it, it takes another 10 to 40 % more.
fn proc_net_tcp() -> Result<usize> {
    let mut count = 0;
    let ours = format!("{OURS:04X}");
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let lines: Vec<String> = std::fs::read_to_string(file)?
            .lines()
            .map(String::from)
            .collect();
        for line in lines {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, state, ..] = fields[..] else {
                continue;
            };
            if ["01", "02", "03", "04", "05", "06"].contains(&state) && local.ends_with(&ours) {
                count += 1;
            }
        }
    }
    Ok(count)
}

/// `ss` as a process, its output thrown away; its memory is read while it writes into a pipe.
fn ss() -> Result<Look> {
    let run = |stdout: Stdio| Command::new("ss").arg("-tniH").stdout(stdout).spawn();
    let mut best: Option<Look> = None;
    for _ in 0..LOOKS {
        let (wall, cpu) = (Instant::now(), cpu_time(libc::RUSAGE_CHILDREN)?);
        run(Stdio::null())?.wait()?;
        let look = Look {
            wall: wall.elapsed(),
            cpu: cpu_time(libc::RUSAGE_CHILDREN)?.saturating_sub(cpu),
            rows: 0,
            peak: 0,
        };
        best = Some(best.map_or(look, |best| best.best(look)));
    }
    let mut look = best.ok_or("no look")?;
    let mut child = run(Stdio::piped())?;
    let mut stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
    let mut chunk = [0; 4096];
    while !stdout.fill_buf()?.is_empty() {
        // Once it has ended, the figure of the last time counts.
        look.peak = peak(&child.id().to_string()).map_or(look.peak, |peak| peak.max(look.peak));
        let read = stdout.read(&mut chunk)?;
        look.rows += chunk[..read].iter().filter(|byte| **byte == b'\n').count();
    }
    child.wait()?;
    // Two lines a socket.
    look.rows /= 2;
    Ok(look)
}

/// Peak memory of a process so far, KiB.
fn peak(process: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no VmHWM")?.parse()?)
}

/// User and system time of this process or of the children it has waited for.
#[expect(
    unsafe_code,
    reason = "rustix has no getrusage, and times() counts in ticks"
)]
fn cpu_time(who: libc::c_int) -> Result<Duration> {
    // SAFETY: all zeros are a valid `rusage`, a struct of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live `rusage`, which the kernel fills.
    if unsafe { libc::getrusage(who, &raw mut usage) } != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    let time = |time: libc::timeval| -> Result<Duration> {
        let micros = time.tv_sec * 1_000_000 + time.tv_usec;
        Ok(Duration::from_micros(micros.try_into()?))
    };
    Ok(time(usage.ru_utime)? + time(usage.ru_stime)?)
}
