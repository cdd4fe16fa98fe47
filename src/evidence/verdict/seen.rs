//! What a look shows of one connection. Every age is in milliseconds, counted back from the look.

/// What one look shows of one connection, apart from its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Where the connection is in its life.
    pub stage: Stage,
    /// Bytes received that the program has not read (`idiag_rqueue`); counts an unread FIN as one.
    pub unread: u32,
    /// Bytes not sent, or sent and not acknowledged (`idiag_wqueue`); counts our own FIN as one.
    pub unsent: u32,
    /// Retransmission timeouts in a row that no acknowledgement has answered (`tcpi_retransmits`).
    pub retransmits: u8,
    /// The ages, unless the kernel withheld them.
    pub ages: Option<Ages>,
    /// Payload bytes received over the connection's life (`tcpi_bytes_received`, Linux 4.1).
    pub received: u64,
    /// Payload bytes sent (`tcpi_bytes_sent`, Linux 4.19; before that those acknowledged).
    pub sent: u64,
    /// Segments counted, if the kernel does (Linux 4.6).
    pub segments: Option<Segments>,
    /// What tells a handshake, if the kernel shows it (Linux 4.19).
    pub shape: Option<Shape>,
}

/// How the payload came and went over the connection's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Payload bytes sent, each once (`tcpi_bytes_sent` − `tcpi_bytes_retrans`).
    pub sent: u64,
    /// Segments sent with payload, each once (`tcpi_data_segs_out` − `tcpi_total_retrans`).
    pub payloads_sent: u32,
    /// Segments received with payload (`tcpi_data_segs_in`).
    pub payloads_received: u32,
    /// The largest segment received, exact above 536 bytes (`tcpi_rcv_mss`).
    pub largest_received: u32,
    /// Payload bytes that a full segment holds (`tcpi_snd_mss`).
    pub mss: u32,
}

/// Segments of one connection, modulo 2¹⁶: 100 000 connections are remembered twice, and only differences count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    /// Sent without payload: `tcpi_segs_out` − `tcpi_data_segs_out`; not the SYN-ACK.
    pub acks_sent: u16,
    /// Received without payload: `tcpi_segs_in` − `tcpi_data_segs_in`.
    pub acks_received: u16,
    /// Received with payload: `tcpi_data_segs_in`.
    pub payloads_received: u16,
}

impl Segments {
    /// So many that they decide nothing.
    pub(super) const UNKNOWN: Self = Self {
        acks_sent: u16::MAX,
        acks_received: u16::MAX,
        payloads_received: u16::MAX,
    };

    /// What has been added since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            acks_sent: self.acks_sent.wrapping_sub(before.acks_sent),
            acks_received: self.acks_received.wrapping_sub(before.acks_received),
            payloads_received: self
                .payloads_received
                .wrapping_sub(before.payloads_received),
        }
    }
}

/// Ages in milliseconds. The kernel starts all three when the connection is established.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Since payload was last received (`tcpi_last_data_recv`).
    pub received: u32,
    /// Since payload was last sent (`tcpi_last_data_sent`).
    pub sent: u32,
    /// Since an acknowledgement last arrived (`tcpi_last_ack_recv`).
    pub ack: u32,
}

/// Where a connection is in its life, as far as a request cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The handshake is not over (SYN_RECV): an arrival, but no request yet, and one that a port scan leaves for a minute.
    Opening,
    /// Both sides may send (ESTABLISHED).
    #[default]
    Open,
    /// The client has sent its FIN and may still read an answer (CLOSE_WAIT).
    HalfClosed,
    /// The program has closed; the kernel sends what is left (FIN_WAIT1, CLOSING, LAST_ACK).
    Closing,
    /// Everything was sent and acknowledged (FIN_WAIT2, TIME_WAIT, CLOSE).
    Closed,
}

/// The delayed-ACK mode of a socket, in which it hopes to send the ACK with an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pingpong {
    /// Only `/proc/net/tcp` shows it, and it was not read.
    #[default]
    Unread,
    /// It could not be read, or says nothing on this kernel.
    Unknown,
    /// Off.
    Off,
    /// On.
    On,
}

/// What is known of the connection from looks before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Segments since the look before the last payload arrived; unknown when there was no such look.
    pub since: Option<Segments>,
    /// The delayed-ACK mode since the last payload.
    pub pingpong: Pingpong,
    /// The longest pause, in milliseconds, between two bursts of the answer now being sent; zero when it came in one.
    pub longest_pause: u32,
    /// What moved since the first look, on ports with HTTP/2.
    pub flow: Option<Flow>,
}

/// What moved on a connection with HTTP/2 since the first look at it, without pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// What was last.
    pub last: Last,
    /// Since payload moved that was more than a ping, milliseconds.
    pub quiet: u32,
    /// Bytes of control frames that the server has sent since the first look.
    pub controls: u32,
}

/// The last thing that moved, apart from pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// What came before the first look, or came and went at once: what else the kernel shows decides.
    Unknown,
    /// More came in than control frames, and nothing went out since.
    Asked,
    /// What came before the first look, and payload had come in last: a request, or what follows an answer.
    Perhaps,
    /// Control frames came in, or something went out.
    Moved,
}
