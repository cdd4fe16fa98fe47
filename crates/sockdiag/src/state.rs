//! States of a TCP socket, and the small enums of a row.

/// State of a TCP socket, `enum` in `include/net/tcp_states.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpState {
    /// 1: open both ways, as far as the handshake and FINs received go.
    Established,
    /// 2: SYN sent, no answer yet.
    SynSent,
    /// 3: SYN received and answered. How the kernel reports every half-open connection.
    SynRecv,
    /// 4: we closed; our FIN is unsent or unacknowledged, perhaps with data before it.
    FinWait1,
    /// 5: we closed and the peer knows; the peer may still send.
    FinWait2,
    /// 6: over; only the port pair is kept for a minute.
    TimeWait,
    /// 7: closed, or not connected.
    Close,
    /// 8: the peer closed its half; we may still send.
    CloseWait,
    /// 9: the peer closed, then we did; our FIN is unsent or unacknowledged, perhaps with data before it.
    LastAck,
    /// 10: listener.
    Listen,
    /// 11: both closed at once; our FIN is unacknowledged.
    Closing,
    /// 12: half-open in the kernel's own table; rows say [`SynRecv`](Self::SynRecv).
    NewSynRecv,
    /// 13: bound to a port without `listen` or `connect` (Linux 6.8); rows say [`Close`](Self::Close).
    BoundInactive,
    /// A number that this crate does not know.
    Unknown(u8),
}

impl From<u8> for TcpState {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::Established,
            2 => Self::SynSent,
            3 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            12 => Self::NewSynRecv,
            13 => Self::BoundInactive,
            other => Self::Unknown(other),
        }
    }
}

impl From<TcpState> for u8 {
    fn from(state: TcpState) -> Self {
        match state {
            TcpState::Established => 1,
            TcpState::SynSent => 2,
            TcpState::SynRecv => 3,
            TcpState::FinWait1 => 4,
            TcpState::FinWait2 => 5,
            TcpState::TimeWait => 6,
            TcpState::Close => 7,
            TcpState::CloseWait => 8,
            TcpState::LastAck => 9,
            TcpState::Listen => 10,
            TcpState::Closing => 11,
            TcpState::NewSynRecv => 12,
            TcpState::BoundInactive => 13,
            TcpState::Unknown(other) => other,
        }
    }
}

/// The timer that a socket runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// None.
    Off,
    /// Retransmission of data, SYN or FIN.
    Retransmit,
    /// Keep-alive, or the wait of an orphan in `FIN_WAIT2`.
    KeepAlive,
    /// The minute of `TIME_WAIT`.
    TimeWait,
    /// Probe of a peer with a full window.
    Probe,
    /// A number that this crate does not know.
    Unknown(u8),
}

impl From<u8> for Timer {
    fn from(number: u8) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::Retransmit,
            2 => Self::KeepAlive,
            3 => Self::TimeWait,
            4 => Self::Probe,
            other => Self::Unknown(other),
        }
    }
}

/// Which halves of a connection are shut, `INET_DIAG_SHUTDOWN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Shutdown {
    /// Nothing more will be received: the peer sent its FIN, or the program called `shutdown(SHUT_RD)`.
    pub receive: bool,
    /// Nothing more will be written: the program called `shutdown(SHUT_WR)` or closed.
    pub send: bool,
}

impl From<u8> for Shutdown {
    fn from(bits: u8) -> Self {
        Self {
            receive: bits & 1 != 0,
            send: bits & 2 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Shutdown, TcpState};

    #[test]
    fn every_number_survives_the_way_there_and_back() {
        for number in 0..=u8::MAX {
            assert_eq!(u8::from(TcpState::from(number)), number);
        }
    }

    #[test]
    fn shutdown_bits_are_told_apart() {
        let receive = Shutdown {
            receive: true,
            send: false,
        };
        assert_eq!(Shutdown::from(1), receive);
        assert_eq!(
            Shutdown::from(2),
            Shutdown {
                receive: false,
                send: true
            }
        );
    }
}
