//! Ring buffers: their backlog.

use test_support::objects::{Ring, UserRing, if_possible};

/// In bytes: a multiple of the page size and a power of two, on every machine.
const SIZE: u32 = 64 * 1024;

pub(crate) fn backlog() {
    let ring = Ring::new(SIZE).expect("ring buffers exist since 5.8");
    assert_eq!(ring.backlog(), 0);
    ring.produce(1000).expect("there is room");
    assert_eq!(ring.backlog(), 1000 * Ring::RECORD);
    ring.consume(500).expect("they were written");
    assert_eq!(ring.backlog(), 500 * Ring::RECORD);
    // Once around, so that positions and offsets differ.
    ring.produce(1500).expect("there is room");
    ring.consume(2000 - 7).expect("they were written");
    assert_eq!(ring.backlog(), 7 * Ring::RECORD);
    ring.produce(u32::try_from(u64::from(SIZE) / Ring::RECORD).expect("it fits"))
        .expect_err("the buffer has no room for them");
    ring.consume(7).expect("they were written");
}

pub(crate) fn user_backlog() {
    // Before 6.1 there is none.
    let Some(ring) = if_possible(UserRing::new(SIZE)) else { return };
    assert_eq!(ring.backlog(), 0);
    ring.produce(100, 13).expect("there is room");
    assert_eq!(ring.backlog(), UserRing::taken_up(100, 13));
    assert_eq!(UserRing::taken_up(100, 13), 100 * 24);
    ring.produce(5000, 13).expect_err("the buffer has no room for them");
    assert_eq!(ring.backlog(), UserRing::taken_up(SIZE / 24, 13));
}
