//! HTTP/2, with TLS and without: a server that keeps the book, and a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::book::{Book, Truth};
use crate::client::To;
use crate::plan::Plan;
use crate::tls::{self, Speech};

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// Serves `address` until the program ends.
pub(crate) fn serve(address: SocketAddr, speech: Speech, book: &Arc<Book>) -> Result<()> {
    let listener =
        std::net::TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
    listener.set_nonblocking(true)?;
    let runtime = runtime()?;
    let acceptor = speech.server()?.map(TlsAcceptor::from);
    let book = Arc::clone(book);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                let (book, acceptor) = (Arc::clone(&book), acceptor.clone());
                tokio::spawn(async move {
                    // A client that goes away is part of the game.
                    let _ = connection(stream, acceptor, &book).await;
                });
            }
        });
    });
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, book: &Book) -> Result<()> {
    stream.set_nodelay(true)?;
    let cookie = rustix::net::sockopt::socket_cookie(&stream)?;
    let open = Open {
        truth: book.open(cookie),
        count: Arc::default(),
    };
    let end = match acceptor {
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => requests(stream, &open).await,
            Err(error) => Err(error.into()),
        },
        None => requests(stream, &open).await,
    };
    book.close(cookie);
    end
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin, open: &Open) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    open.truth.ready();
    while let Some(next) = connection.accept().await {
        let (request, respond) = next?;
        let one = open.begin();
        tokio::spawn(async move {
            let _ = answer(request, respond).await;
            drop(one);
        });
    }
    Ok(())
}

/// The requests in flight on a connection: the book knows whether there is one.
#[derive(Clone)]
struct Open {
    truth: Arc<Truth>,
    count: Arc<AtomicU64>,
}

struct One(Open);

impl Open {
    fn begin(&self) -> One {
        // One thread serves all of them.
        if self.count.fetch_add(1, Ordering::SeqCst) == 0 {
            self.truth.asked();
        }
        One(self.clone())
    }
}

impl Drop for One {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.truth.answered();
        }
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Result<()> {
    let plan = Plan::parse(request.uri().path()).context("no plan")?;
    let mut body = request.into_body();
    if plan.early {
        let mut stream = respond.send_response(Response::new(()), false)?;
        while let Some(message) = body.data().await {
            let message = message?;
            body.flow_control().release_capacity(message.len())?;
            stream.send_data(message, false)?;
        }
        stream.send_data(Bytes::new(), true)?;
        return Ok(());
    }
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
    }
    sleep(Duration::from_millis(plan.wait)).await;
    let mut stream = respond.send_response(Response::new(()), false)?;
    let bytes = Bytes::from(vec![b'.'; plan.size]);
    for _ in 1..plan.parts {
        stream.send_data(bytes.clone(), false)?;
        sleep(plan.gap()).await;
    }
    stream.send_data(bytes, true)?;
    Ok(())
}

/// One connection with many streams.
pub(crate) struct Client {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    pings: h2::PingPong,
}

/// A stream of messages in both directions.
pub(crate) struct Talk {
    out: SendStream<Bytes>,
    back: RecvStream,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(to: To) -> Result<Self> {
        let runtime = runtime()?;
        let (requests, pings) = runtime.block_on(async {
            let stream = TcpStream::connect(to.address).await?;
            stream.set_nodelay(true)?;
            if to.speech.is_tls() {
                let connector = TlsConnector::from(tls::client(to)?);
                begin(connector.connect(tls::name(to)?, stream).await?).await
            } else {
                begin(stream).await
            }
        })?;
        Ok(Self {
            runtime,
            requests,
            pings,
        })
    }

    /// A request with a body of so many bytes, and its whole answer.
    pub(crate) fn ask(&mut self, plan: &Plan, body: usize) -> Result<()> {
        let Self {
            runtime, requests, ..
        } = self;
        runtime.block_on(one(requests.clone(), *plan, body))
    }

    /// Several requests at once.
    pub(crate) fn ask_all(&mut self, plans: &[Plan]) -> Result<()> {
        let requests = &self.requests;
        self.runtime.block_on(async {
            let asked: Vec<_> = plans
                .iter()
                .map(|plan| tokio::spawn(one(requests.clone(), *plan, 100)))
                .collect();
            for answer in asked {
                answer.await??;
            }
            Ok(())
        })
    }

    /// Begins a stream of messages.
    pub(crate) fn talk(&mut self) -> Result<Talk> {
        let requests = self.requests.clone();
        self.runtime.block_on(async {
            let plan = Plan {
                early: true,
                ..Plan::default()
            };
            let mut requests = requests.ready().await?;
            let (answer, out) = requests.send_request(head(&plan)?, false)?;
            let back = answer.await?.into_body();
            Ok(Talk { out, back })
        })
    }

    /// A message, and its echo.
    pub(crate) fn say(&mut self, talk: &mut Talk, size: usize) -> Result<()> {
        self.runtime.block_on(async {
            talk.out.send_data(Bytes::from(vec![b'.'; size]), false)?;
            let mut left = size;
            while left > 0 {
                let part = talk.back.data().await.context("the stream ended")??;
                talk.back.flow_control().release_capacity(part.len())?;
                left = left.saturating_sub(part.len());
            }
            Ok(())
        })
    }

    /// Ends a stream of messages.
    pub(crate) fn end(&mut self, mut talk: Talk) -> Result<()> {
        self.runtime.block_on(async {
            talk.out.send_data(Bytes::new(), true)?;
            while let Some(part) = talk.back.data().await {
                part?;
            }
            Ok(())
        })
    }

    /// Nothing but a ping every `every` milliseconds.
    pub(crate) fn ping(&mut self, every: u64, times: u64) -> Result<()> {
        let Self { runtime, pings, .. } = self;
        runtime.block_on(async {
            for _ in 0..times {
                sleep(Duration::from_millis(every)).await;
                pings.ping(h2::Ping::opaque()).await?;
            }
            Ok(())
        })
    }

    /// A request, and a ping every `every` milliseconds until it is answered.
    pub(crate) fn ask_pinging(&mut self, plan: &Plan, every: u64) -> Result<()> {
        let Self {
            runtime,
            requests,
            pings,
        } = self;
        runtime.block_on(async {
            let asked = tokio::spawn(one(requests.clone(), *plan, 200));
            while !asked.is_finished() {
                sleep(Duration::from_millis(every)).await;
                pings.ping(h2::Ping::opaque()).await?;
            }
            asked.await?
        })
    }

    /// Nothing, while frames are answered.
    pub(crate) fn idle(&mut self, millis: u64) {
        let time = Duration::from_millis(millis);
        self.runtime.block_on(async { sleep(time).await });
    }
}

type Begun = (SendRequest<Bytes>, h2::PingPong);

async fn begin(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Begun> {
    let (requests, mut connection) = h2::client::handshake(stream).await?;
    let pings = connection.ping_pong().context("no pings")?;
    tokio::spawn(connection);
    Ok((requests, pings))
}

fn head(plan: &Plan) -> Result<Request<()>> {
    Ok(Request::post(format!("http://lab{plan}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?)
}

async fn one(requests: SendRequest<Bytes>, plan: Plan, body: usize) -> Result<()> {
    let mut requests = requests.ready().await?;
    let (answer, mut out) = requests.send_request(head(&plan)?, false)?;
    out.send_data(Bytes::from(vec![b'.'; 5 + body]), true)?;
    let mut back = answer.await?.into_body();
    while let Some(part) = back.data().await {
        let part = part?;
        back.flow_control().release_capacity(part.len())?;
    }
    Ok(())
}
