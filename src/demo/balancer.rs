//! A small balancer: round robin over the backends that are well, connections to them kept and used again, nothing retried.

use std::io::{self, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use super::show::Show;
use super::wire;

/// Where health checks come from: the drain is told that they are no traffic, as it would be of a real balancer's.
pub const CHECKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Each backend is checked this often.
const EVERY: Duration = Duration::from_millis(250);
/// The longest that a check may take.
const CHECK: Duration = Duration::from_secs(1);
/// What a thread needs here, in bytes.
const STACK: usize = 256 << 10;

/// The balancer; its threads end with it.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    members: Vec<Member>,
    turn: AtomicUsize,
    over: AtomicBool,
}

/// One backend.
#[derive(Debug)]
struct Member {
    name: String,
    address: SocketAddrV4,
    up: AtomicBool,
    in_flight: AtomicUsize,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl Balancer {
    /// Starts it before the backends, given by name and port. `show` hears which of them are out.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(backends: &[(String, u16)], show: &Show) -> io::Result<Self> {
        let member = |(name, port): &(String, u16)| Member {
            name: name.clone(),
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port),
            up: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
        };
        let shared = Arc::new(Shared {
            members: backends.iter().map(member).collect(),
            turn: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        for at in 0..backends.len() {
            let (shared, show) = (shared.clone(), show.clone());
            thread::spawn(move || shared.keep_checking(at, &show));
        }
        let accepting = shared.clone();
        thread::spawn(move || accepting.accept(&listener));
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests are in flight on the backend at `at`.
    #[must_use]
    pub fn in_flight(&self, at: usize) -> usize {
        let member = self.shared.members.get(at);
        member.map_or(0, |member| member.in_flight.load(Ordering::Relaxed))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming().flatten() {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let shared = self.clone();
            // Without a thread the client's connection is closed, and the request counts as failed.
            let _ = thread::Builder::new()
                .stack_size(STACK)
                .spawn(move || shared.serve(&client));
        }
    }

    /// One request; the client's connection is closed behind its answer.
    fn serve(&self, mut client: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let Some(request) = wire::head(&mut BufReader::new(client))? else {
            return Ok(());
        };
        let Some(member) = self.choose() else {
            return client.write_all(&refusal("503 Service Unavailable"));
        };
        member.in_flight.fetch_add(1, Ordering::Relaxed);
        let relayed = match member.ask(&request) {
            Ok((server, head)) => member.relay(server, &head, client),
            Err(_) => client.write_all(&refusal("502 Bad Gateway")),
        };
        member.in_flight.fetch_sub(1, Ordering::Relaxed);
        relayed
    }

    /// The next backend that is well.
    fn choose(&self) -> Option<&Member> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.members.len();
        (0..count)
            .filter_map(|step| self.members.get((turn + step) % count))
            .find(|member| member.up.load(Ordering::Relaxed))
    }

    fn keep_checking(&self, at: usize, show: &Show) {
        let Some(member) = self.members.get(at) else {
            return;
        };
        while !self.over.load(Ordering::Relaxed) {
            let says = member.check();
            let up = says.as_deref().is_ok_and(|line| line.contains(" 200 "));
            if member.up.swap(up, Ordering::Relaxed) && !up {
                let why = match says {
                    Ok(_) => "its health check says that it drains",
                    Err(_) => "its health check fails",
                };
                show.line(&format!("balancer: {} is out, {why}", member.name));
            }
            thread::sleep(EVERY);
        }
    }
}

impl Member {
    /// Sends a request, over a connection used before if there is one, and waits for the head of its answer.
    fn ask(&self, request: &str) -> io::Result<(BufReader<TcpStream>, String)> {
        let idle = self.lock().pop();
        let mut server = match idle {
            Some(server) => server,
            None => {
                let server = TcpStream::connect(self.address)?;
                server.set_nodelay(true)?;
                BufReader::new(server)
            }
        };
        server.get_mut().write_all(request.as_bytes())?;
        let head = wire::head(&mut server)?.ok_or(ErrorKind::UnexpectedEof)?;
        Ok((server, head))
    }

    fn relay(
        &self,
        mut server: BufReader<TcpStream>,
        head: &str,
        mut client: &TcpStream,
    ) -> io::Result<()> {
        client.write_all(head.as_bytes())?;
        wire::copy_body(head, &mut server, &mut client)?;
        self.lock().push(server);
        Ok(())
    }

    /// The first line of what its health check says.
    fn check(&self) -> io::Result<String> {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        bind(&socket, &SocketAddrV4::new(CHECKER, 0))?;
        connect(&socket, &self.address)?;
        let mut server = TcpStream::from(socket);
        server.set_read_timeout(Some(CHECK))?;
        server.write_all(b"GET /health HTTP/1.1\r\nHost: backend\r\n\r\n")?;
        let head = wire::head(&mut BufReader::new(server))?;
        Ok(head.unwrap_or_default().lines().take(1).collect())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<BufReader<TcpStream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn refusal(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").into_bytes()
}
