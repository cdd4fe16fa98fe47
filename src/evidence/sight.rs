//! From a row of the kernel to what the rules need of it.

use sockdiag::{Info, Row, TcpState};

use super::verdict::{Ages, Seen, Segments, Shape, Stage};

/// What the rules need of a row.
#[must_use]
pub fn see(row: &Row<'_>) -> Seen {
    let stage = match row.state {
        TcpState::SynRecv | TcpState::NewSynRecv | TcpState::SynSent => Stage::Opening,
        TcpState::Established => Stage::Open,
        TcpState::CloseWait => Stage::HalfClosed,
        TcpState::FinWait1 | TcpState::Closing | TcpState::LastAck => Stage::Closing,
        TcpState::FinWait2 | TcpState::TimeWait | TcpState::Close => Stage::Closed,
        // What the kernel may add one day is not taken for idle.
        _ => Stage::Open,
    };
    let info = row.info.as_ref();
    // The kernel counts the client's FIN as a byte; taken for one, it would look like a request.
    let fin = u64::from(!matches!(
        row.state,
        TcpState::Established | TcpState::FinWait1 | TcpState::FinWait2
    ));
    Seen {
        stage,
        unread: row.rqueue,
        unsent: row.wqueue,
        retransmits: info.and_then(Info::retransmits).unwrap_or_default(),
        ages: info.and_then(ages),
        received: info
            .and_then(Info::bytes_received)
            .unwrap_or_default()
            .saturating_sub(fin),
        sent: info
            .and_then(|info| info.bytes_sent().or(info.bytes_acked()))
            .unwrap_or_default(),
        segments: info.and_then(segments),
        shape: info.and_then(shape),
    }
}

/// None where a counter is missing: a handshake can't be told then.
fn shape(info: &Info<'_>) -> Option<Shape> {
    Some(Shape {
        sent: info.bytes_sent()?.saturating_sub(info.bytes_retrans()?),
        payloads_sent: info
            .data_segs_out()?
            .saturating_sub(info.total_retrans().unwrap_or_default()),
        payloads_received: info.data_segs_in()?,
        largest_received: info.rcv_mss()?,
        mss: info.snd_mss()?,
    })
}

/// Withheld as a whole by a kernel without byte counters: no bytes received would look like no request.
fn ages(info: &Info<'_>) -> Option<Ages> {
    info.bytes_received()?;
    Some(Ages {
        received: info.last_data_recv()?,
        sent: info.last_data_sent()?,
        ack: info.last_ack_recv()?,
    })
}

fn segments(info: &Info<'_>) -> Option<Segments> {
    Some(Segments {
        acks_sent: low(info.segs_out()?.wrapping_sub(info.data_segs_out()?)),
        acks_received: low(info.segs_in()?.wrapping_sub(info.data_segs_in()?)),
        payloads_received: low(info.data_segs_in()?),
    })
}

fn low(count: u32) -> u16 {
    let [.., high, low] = count.to_be_bytes();
    u16::from_be_bytes([high, low])
}
