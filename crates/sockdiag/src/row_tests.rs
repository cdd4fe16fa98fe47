//! Rows from handmade bytes; real captures are in `tests/corpus`.

use super::{Row, SocketId};
use crate::wire::{Cursor, messages};
use crate::{Error, Family, Info, Shutdown, TcpState, Timer};

/// A row's fixed part with recognisable values.
fn head(family: u8, local: [u8; 16], remote: [u8; 16]) -> Vec<u8> {
    let mut bytes = vec![family, 8, 1, 3];
    bytes.extend(8080u16.to_be_bytes());
    bytes.extend(40000u16.to_be_bytes());
    bytes.extend(local);
    bytes.extend(remote);
    bytes.extend(7u32.to_ne_bytes());
    bytes.extend(0x1122_3344u32.to_ne_bytes());
    bytes.extend(0x5566_7788u32.to_ne_bytes());
    for word in [200u32, 11, 22, 1000, 4711] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

fn v4(a: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&a);
    bytes
}

fn mapped(a: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(a).to_ipv6_mapped().octets()
}

fn attribute(number: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len())
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    bytes.extend(number.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn all_fields_are_read_and_unknown_attributes_skipped() {
    let mut bytes = head(2, v4([127, 0, 0, 1]), v4([127, 0, 0, 2]));
    bytes.extend(attribute(99, b"???"));
    bytes.extend(attribute(8, &[1]));
    bytes.extend(attribute(2, &[5; 9]));
    bytes.extend(attribute(21, &77u64.to_ne_bytes()));
    let row = Row::parse(&bytes).unwrap();
    assert_eq!(row.id.local(), "127.0.0.1:8080".parse().unwrap());
    assert_eq!(row.id.remote(), "127.0.0.2:40000".parse().unwrap());
    assert_eq!(row.id.cookie(), 0x5566_7788_1122_3344);
    assert_eq!((row.id.interface(), row.id.family()), (7, Family::V4));
    assert_eq!(
        (row.state, row.timer),
        (TcpState::CloseWait, Timer::Retransmit)
    );
    assert_eq!((row.retransmits, row.timer_expires), (3, 200));
    assert_eq!(
        (row.rqueue, row.wqueue, row.uid, row.inode),
        (11, 22, 1000, 4711)
    );
    assert_eq!(row.cgroup, Some(77));
    assert_eq!(
        row.shutdown,
        Some(Shutdown {
            receive: true,
            send: false
        })
    );
    assert_eq!(row.info, Some(Info::new(&[5; 9])));
}

#[test]
fn mapped_addresses_read_as_ipv4_and_link_local_ones_carry_their_interface() {
    let bytes = head(10, mapped([127, 0, 0, 1]), mapped([127, 0, 0, 2]));
    let row = Row::parse(&bytes).unwrap();
    assert_eq!(row.id.family(), Family::V6);
    assert_eq!(row.id.remote(), "127.0.0.2:40000".parse().unwrap());
    let mut link = [0; 16];
    link[..2].copy_from_slice(&[0xfe, 0x80]);
    let bytes = head(10, link, [0; 16]);
    let row = Row::parse(&bytes).unwrap();
    assert_eq!(row.id.local(), "[fe80::%7]:8080".parse().unwrap());
    assert_eq!(row.id.remote(), "[::]:40000".parse().unwrap());
}

#[test]
fn an_id_goes_back_to_the_kernel_byte_for_byte() {
    for family in [2, 10] {
        let bytes = head(family, mapped([1, 2, 3, 4]), [9; 16]);
        let id = Row::parse(&bytes).unwrap().id;
        let back: Vec<u8> = id.to_bytes().collect();
        assert_eq!(back, bytes[4..52]);
        assert_eq!(SocketId::parse(id.family(), &mut Cursor(&back)), Some(id));
    }
}

#[test]
fn an_id_can_be_made_from_its_ends() {
    let v4 = Row::parse(&head(2, v4([127, 0, 0, 1]), v4([127, 0, 0, 2])))
        .unwrap()
        .id;
    assert_eq!(SocketId::new(v4.local(), v4.remote(), 7, v4.cookie()), v4);
    let bytes = head(10, mapped([127, 0, 0, 1]), mapped([127, 0, 0, 2]));
    let mapped = Row::parse(&bytes).unwrap().id;
    let local = "[::ffff:127.0.0.1]:8080".parse().unwrap();
    assert_eq!(
        SocketId::new(local, mapped.remote(), 7, mapped.cookie()),
        mapped
    );
    assert_eq!(size_of::<SocketId>(), 56);
}

#[test]
fn every_shortening_of_a_row_is_either_whole_attributes_or_an_error() {
    let mut bytes = head(2, [0; 16], [0; 16]);
    let fixed = bytes.len();
    bytes.extend(attribute(21, &77u64.to_ne_bytes()));
    bytes.extend(attribute(8, &[3]));
    for length in 0..bytes.len() {
        let row = Row::parse(&bytes[..length]);
        // Behind the fixed part, behind the cgroup, and in the padding of the shutdown bits.
        let whole = [fixed, fixed + 12, fixed + 17, fixed + 18, fixed + 19].contains(&length);
        assert_eq!(row.is_ok(), whole, "length {length}: {row:?}");
    }
}

#[test]
fn short_attributes_are_errors() {
    for (number, value) in [(8, &[][..]), (21, &[0; 7])] {
        let mut bytes = head(2, [0; 16], [0; 16]);
        bytes.extend(attribute(number, value));
        assert!(matches!(Row::parse(&bytes), Err(Error::Malformed(_))));
    }
}

#[test]
fn a_message_longer_than_its_datagram_ends_the_walk_with_an_error() {
    let mut bytes = 16u32.to_ne_bytes().to_vec();
    bytes.extend([3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    let whole: Vec<_> = messages(&bytes).collect();
    assert_eq!(whole.len(), 1);
    assert_eq!(
        whole[0].unwrap().status(),
        Err(Error::Malformed("status shorter than 4 bytes"))
    );
    bytes[0] = 20;
    let long: Vec<_> = messages(&bytes).collect();
    assert_eq!(long, [Err(Error::Malformed("length of a message"))]);
    bytes[0] = 15;
    let short: Vec<_> = messages(&bytes).collect();
    assert_eq!(short, [Err(Error::Malformed("length of a message"))]);
    assert_eq!(messages(&bytes[..7]).count(), 1);
}
