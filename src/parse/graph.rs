//! Rings and trees (nccl-logs.md 3).

use super::bytes::Cur;
use super::fact::{Fact, Tree};
use super::nccl::trailing_comm;

/// Ranks that a ring line of 2.22.3 and older lists before it stops without a word.
const OLD_LIMIT: usize = 20;
/// NCCL builds a trees line in 1023 bytes, head included; what is as long as this may end in mid-number.
const TREES_LIMIT: usize = 960;

/// What follows `Channel `: `00/02 :    0   1   2   3`, without `/NN` up to 2.4.8.
pub(super) fn ring(mut c: Cur<'_>) -> Option<Fact> {
    let channel = c.int()?;
    let of = if c.eat(b"/") { Some(c.int()?) } else { None };
    c.blanks();
    c.lit(b":")?;
    let wide = c.0.starts_with(b"    ");
    let mut order = Vec::new();
    let mut cut = false;
    loop {
        c.blanks();
        if c.eat(b"...") {
            cut = true;
            break;
        }
        let before = c;
        let Some(rank) = c.int::<u32>() else { break };
        if c.0.starts_with(b"...") {
            // The dots may have eaten digits of this one.
            cut = true;
            break;
        }
        if !c.at_gap() {
            c = before;
            break;
        }
        order.push(rank);
    }
    if order.is_empty() {
        return None;
    }
    let comm = trailing_comm(c.0);
    if !c.0.is_empty() && !cut && comm.is_none() && !c.0.starts_with(b"comm ") {
        return None;
    }
    let comm = comm.or_else(|| Cur(c.0.strip_prefix(b"comm ")?).pointer());
    cut |= wide && order.len() == OLD_LIMIT;
    Some(Fact::Ring {
        channel,
        of,
        order: order.into(),
        cut,
        comm,
    })
}

/// What follows `Ring `: `00 : 3 -> 0 -> 1`.
pub(super) fn neighbours(mut c: Cur<'_>) -> Option<Fact> {
    let channel = c.int()?;
    c.lit(b" : ")?;
    let prev = c.int()?;
    c.lit(b" -> ")?;
    let rank = c.int()?;
    c.lit(b" -> ")?;
    Some(Fact::RingNeighbours {
        channel,
        prev,
        rank,
        next: c.int()?,
    })
}

/// What follows `Trees `: `[0] 1/-1/-1->0->-1 [1] …`.
pub(super) fn trees(mut c: Cur<'_>) -> Option<Fact> {
    let long = c.0.len() >= TREES_LIMIT;
    let mut trees = Vec::new();
    let mut rank = None;
    loop {
        c.blanks();
        let Some((tree, of)) = entry(&mut c) else {
            break;
        };
        if rank.is_some_and(|rank| rank != of) {
            break;
        }
        rank = Some(of);
        trees.push(tree);
    }
    if long && c.0.is_empty() {
        trees.pop();
    }
    let rank = rank.filter(|_| !trees.is_empty())?;
    let comm = trailing_comm(c.0).or_else(|| Cur(c.0.strip_prefix(b"comm ")?).pointer());
    Some(Fact::Trees {
        rank,
        trees: trees.into(),
        comm,
    })
}

/// `[0] 1/-1/-1->0->2`; with `|2->0->1/-1/-1` behind it up to 2.7.8; `[0] -1->0->1/-1/-1` in 2.4.
fn entry(c: &mut Cur<'_>) -> Option<(Tree, u32)> {
    let start = *c;
    let mut read = || {
        c.lit(b"[")?;
        let channel = c.int()?;
        c.lit(b"] ")?;
        let (first, rank, last) = chain(c)?;
        if c.eat(b"|") {
            chain(c)?;
        }
        if !c.at_gap() {
            return None;
        }
        let (down, up) = if first.1 > 1 || last.1 == 1 {
            (first, last)
        } else {
            (last, first)
        };
        Some((tree(channel, up.0, down.0), rank))
    };
    let found = read();
    if found.is_none() {
        *c = start;
    }
    found
}

/// What follows `Tree `: `0 : up -> rank -> d0/d1/d2`, the order of GRAPH.
pub(super) fn tree_line(mut c: Cur<'_>) -> Option<Fact> {
    let channel = c.int()?;
    c.lit(b" : ")?;
    let (up, _) = peers(&mut c)?;
    c.lit(b" -> ")?;
    let rank = c.int()?;
    c.lit(b" -> ")?;
    let (down, _) = peers(&mut c)?;
    Some(Fact::Trees {
        rank,
        trees: Box::new([tree(channel, up, down)]),
        comm: trailing_comm(c.0),
    })
}

/// Up to three neighbours, −1 for none.
type Peers = [i64; 3];
/// Neighbours on both sides of a rank, each with how many numbers were printed.
type Chain = ((Peers, u8), u32, (Peers, u8));

fn tree(channel: u16, up: Peers, down: Peers) -> Tree {
    let known = |n: &i64| u32::try_from(*n).ok();
    Tree {
        channel,
        up: up.first().and_then(known),
        down: down.iter().filter_map(known).collect(),
    }
}

/// `a/b/c->rank->d`, either side with one to three numbers.
fn chain(c: &mut Cur<'_>) -> Option<Chain> {
    let first = peers(c)?;
    c.lit(b"->")?;
    let rank = c.int()?;
    c.lit(b"->")?;
    Some((first, rank, peers(c)?))
}

fn peers(c: &mut Cur<'_>) -> Option<(Peers, u8)> {
    let mut peers = [-1; 3];
    let mut n = 0;
    for slot in &mut peers {
        *slot = c.signed()?;
        n += 1;
        if !c.eat(b"/") {
            break;
        }
    }
    Some((peers, n))
}
