//! `struct tcp_info`, as long as the running kernel makes it.

/// What the kernel remembers about one connection: ages, counters, windows.
///
/// The struct has grown with the kernel; a field is `None` where the kernel's struct ends before it. Counters count from the
/// start of the connection. 32-bit counters wrap.
///
/// Of a socket in `LISTEN` only [`unacked`](Self::unacked) (current accept queue) and [`sacked`](Self::sacked) (its
/// limit) mean anything; all ages and counters read 0. Before the handshake is over ages are meaningless.
///
/// An age counts in the kernel's ticks (1 to 10 ms, `CONFIG_HZ`) and is turned into milliseconds: two events in one tick
/// have the same age. The age of the last ACK *sent* isn't kept by the kernel (`tcpi_last_ack_sent` is always 0), so it is
/// not offered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info<'a>(&'a [u8]);

impl<'a> Info<'a> {
    /// Reads a `struct tcp_info` of any length, as found in the attribute `INET_DIAG_INFO` or from `TCP_INFO`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The struct as it came.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.0
    }

    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }
}

/// Gives each field its reader. The offset is that of the field in `struct tcp_info` (`include/uapi/linux/tcp.h`).
macro_rules! fields {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, at $offset:literal;)+) => {
        impl Info<'_> {
            $(
                $(#[doc = $doc])+
                #[must_use]
                pub fn $name(&self) -> Option<$type> {
                    self.read($offset).map(<$type>::from_ne_bytes)
                }
            )+

            /// Every field that the kernel's struct reaches, by name.
            pub fn fields(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let fields = [$((stringify!($name), self.$name().map(u64::from))),+];
                fields.into_iter().filter_map(|(name, value)| Some((name, value?)))
            }
        }

        /// Name, offset and size of each field, for the tests.
        #[cfg(test)]
        const LAYOUT: &[(&str, usize, usize)] =
            &[$((stringify!($name), $offset, size_of::<$type>()),)+];
    };
}

fields! {
    /// Congestion state: 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss. `tcpi_ca_state`, all kernels.
    ca_state: u8, at 1;
    /// Retransmission timeouts in a row without an answer. `tcpi_retransmits`, all kernels.
    retransmits: u8, at 2;
    /// Zero-window or keep-alive probes in a row without an answer. `tcpi_probes`, all kernels.
    probes: u8, at 3;
    /// How often the retransmission timeout was doubled. `tcpi_backoff`, all kernels.
    backoff: u8, at 4;
    /// Retransmission timeout, microseconds. `tcpi_rto`, all kernels.
    rto: u32, at 8;
    /// Predicted delay of a delayed ACK, microseconds. `tcpi_ato`, all kernels.
    ato: u32, at 12;
    /// Size of the segments sent, bytes. `tcpi_snd_mss`, all kernels.
    snd_mss: u32, at 16;
    /// Size of the segments received, estimated, bytes. `tcpi_rcv_mss`, all kernels.
    rcv_mss: u32, at 20;
    /// Segments sent and not yet acknowledged, a FIN included; in `LISTEN` the connections that wait for accept.
    /// `tcpi_unacked`, all kernels.
    unacked: u32, at 24;
    /// Segments acknowledged selectively; in `LISTEN` the limit of the accept queue. `tcpi_sacked`, all kernels.
    sacked: u32, at 28;
    /// Segments believed lost. `tcpi_lost`, all kernels.
    lost: u32, at 32;
    /// Segments retransmitted and not yet acknowledged. `tcpi_retrans`, all kernels.
    retrans: u32, at 36;
    /// Age of the last payload sent (retransmissions count), milliseconds; before any, age of the connection.
    /// `tcpi_last_data_sent`, all kernels.
    last_data_sent: u32, at 44;
    /// Age of the last payload received, read or not, milliseconds; before any, age of the connection.
    /// `tcpi_last_data_recv`, all kernels.
    last_data_recv: u32, at 52;
    /// Age of the last ACK received, with payload or without, milliseconds. `tcpi_last_ack_recv`, all kernels.
    last_ack_recv: u32, at 56;
    /// Path MTU, bytes. `tcpi_pmtu`, all kernels.
    pmtu: u32, at 60;
    /// Smoothed round-trip time, microseconds. `tcpi_rtt`, all kernels.
    rtt: u32, at 68;
    /// Variation of the round-trip time, microseconds. `tcpi_rttvar`, all kernels.
    rttvar: u32, at 72;
    /// Congestion window, segments. `tcpi_snd_cwnd`, all kernels.
    snd_cwnd: u32, at 80;
    /// Round-trip time seen by the receiver, microseconds, 0 unknown. `tcpi_rcv_rtt`, all kernels.
    rcv_rtt: u32, at 92;
    /// What the program reads per round trip, bytes. `tcpi_rcv_space`, all kernels.
    rcv_space: u32, at 96;
    /// Segments retransmitted in all. `tcpi_total_retrans`, all kernels.
    total_retrans: u32, at 100;
    /// Payload sent and acknowledged, bytes; a FIN counts as one, as does the SYN of the side that connected.
    /// `tcpi_bytes_acked`, Linux 4.1.
    bytes_acked: u64, at 120;
    /// Payload received in order, bytes, read by the program or not; a FIN counts as one.
    /// `tcpi_bytes_received`, Linux 4.1.
    bytes_received: u64, at 128;
    /// Segments sent, all kinds, retransmissions included. `tcpi_segs_out`, Linux 4.2.
    segs_out: u32, at 136;
    /// Segments received, all kinds. `tcpi_segs_in`, Linux 4.2.
    segs_in: u32, at 140;
    /// Bytes written by the program and not yet sent once. `tcpi_notsent_bytes`, Linux 4.6.
    notsent_bytes: u32, at 144;
    /// Least round-trip time of the last minutes, microseconds. `tcpi_min_rtt`, Linux 4.6.
    min_rtt: u32, at 148;
    /// Segments received with payload. `tcpi_data_segs_in`, Linux 4.6.
    data_segs_in: u32, at 152;
    /// Segments sent with payload, retransmissions included; `segs_out` less this are pure ACKs, SYN and FIN.
    /// `tcpi_data_segs_out`, Linux 4.6.
    data_segs_out: u32, at 156;
    /// Recent rate of delivery, bytes per second. `tcpi_delivery_rate`, Linux 4.9.
    delivery_rate: u64, at 160;
    /// Time with data to send, microseconds. `tcpi_busy_time`, Linux 4.10.
    busy_time: u64, at 168;
    /// Part of `busy_time` in which the peer's window was full, microseconds. `tcpi_rwnd_limited`, Linux 4.10.
    rwnd_limited: u64, at 176;
    /// Part of `busy_time` in which the own send buffer was full, microseconds. `tcpi_sndbuf_limited`, Linux 4.10.
    sndbuf_limited: u64, at 184;
    /// Segments delivered to the peer, SYN included. `tcpi_delivered`, Linux 4.18.
    delivered: u32, at 192;
    /// Segments delivered with a congestion mark. `tcpi_delivered_ce`, Linux 4.18.
    delivered_ce: u32, at 196;
    /// Payload sent, bytes, retransmissions included. `tcpi_bytes_sent`, Linux 4.19.
    bytes_sent: u64, at 200;
    /// Payload retransmitted, bytes. `tcpi_bytes_retrans`, Linux 4.19.
    bytes_retrans: u64, at 208;
    /// Segments that the peer reports as received twice. `tcpi_dsack_dups`, Linux 4.19.
    dsack_dups: u32, at 216;
    /// Times that reordering was seen. `tcpi_reord_seen`, Linux 4.19.
    reord_seen: u32, at 220;
    /// Segments received out of order. `tcpi_rcv_ooopack`, Linux 5.4.
    rcv_ooopack: u32, at 224;
    /// Window that the peer offers, bytes. `tcpi_snd_wnd`, Linux 5.4.
    snd_wnd: u32, at 228;
    /// Window that we offer, bytes. `tcpi_rcv_wnd`, Linux 6.2.
    rcv_wnd: u32, at 232;
    /// Times that the flow was moved to another path. `tcpi_rehash`, Linux 6.2.
    rehash: u32, at 236;
    /// Retransmission timeouts in all, handshake included. `tcpi_total_rto`, Linux 6.7.
    total_rto: u16, at 240;
}

#[cfg(test)]
mod tests {
    use super::{Info, LAYOUT};

    #[test]
    fn no_field_overlaps_another_or_leaves_its_alignment() {
        let mut end = 0;
        for (name, offset, size) in LAYOUT {
            assert!(*offset >= end, "{name} overlaps");
            assert_eq!(offset % size, 0, "{name} alignment");
            end = offset + size;
        }
    }

    #[test]
    fn a_field_is_absent_until_its_last_byte_is_there() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(Info::new(&bytes[..207]).bytes_sent(), None);
        let want = u64::from_ne_bytes([200, 201, 202, 203, 204, 205, 206, 207]);
        assert_eq!(Info::new(&bytes[..208]).bytes_sent(), Some(want));
        assert_eq!(Info::new(&[]).fields().next(), None);
        let whole = Info::new(&bytes);
        assert_eq!(whole.fields().count(), LAYOUT.len());
        assert_eq!(
            whole.fields().last(),
            whole.total_rto().map(|n| ("total_rto", n.into()))
        );
        assert_eq!(Info::new(&bytes[..2]).ca_state(), Some(1));
    }
}
