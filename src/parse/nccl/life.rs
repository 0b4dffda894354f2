//! The lives of communicators (nccl-logs.md 4.2, 4.4, 4.5).

use crate::parse::bytes::{Cur, after};
use crate::parse::fact::{Fact, InitFunc, InitLine, Life, Parent};

/// `ncclCommInitRankConfig comm …`
pub(super) fn function(mut c: Cur<'_>) -> Option<Fact> {
    let name = c.run(|b| b.is_ascii_alphanumeric() || b == b'_');
    let func = if name.starts_with(b"ncclCommSplit") {
        InitFunc::Split
    } else if name.starts_with(b"ncclCommShrink") {
        InitFunc::Shrink
    } else if name.starts_with(b"ncclCommGrow") {
        InitFunc::Grow
    } else if name.starts_with(b"nccl") {
        InitFunc::Init
    } else {
        InitFunc::Unnamed
    };
    if !name.is_empty() {
        c.lit(b" ")?;
    }
    c.lit(b"comm ")?;
    life(c, func)
}

/// What follows `comm `: every Init, Destroy, Abort and Revoke form, and the placement line.
///
/// Fields are read by name in any order, so that a version's extra field costs nothing.
pub(super) fn life(mut c: Cur<'_>, func: InitFunc) -> Option<Fact> {
    // Write-ups shorten the pointer to `0x...`.
    let comm = Cur(c.word()).pointer();
    c.lit(b" rank ")?;
    let rank = c.int()?;
    if !c.eat(b" nranks ") {
        c.lit(b" nRanks ")?;
    }
    let nranks = c.int()?;
    let mut line = InitLine {
        life: Life::InitStart,
        func,
        comm,
        rank,
        nranks,
        cuda_dev: None,
        nvml_dev: None,
        bus_id: None,
        comm_id: None,
        parent: None,
        result: None,
    };
    let mut parent = Parent {
        comm: None,
        count: None,
        color: 0,
        key: 0,
    };
    let mut is_child = false;
    loop {
        c.blanks();
        let mut ended = false;
        match c.word() {
            b"" => return None,
            b"nNodes" => return placement(c, comm?, rank, nranks),
            b"cudaDev" => line.cuda_dev = value(&mut c).int(),
            b"nvmlDev" => line.nvml_dev = value(&mut c).int(),
            b"busId" => line.bus_id = value(&mut c).hex(),
            b"used" => {
                value(&mut c);
            }
            b"parent" => {
                parent.comm = value(&mut c).pointer().filter(|p| *p != 0);
                is_child = true;
            }
            b"splitCount" | b"childCount" => parent.count = value(&mut c).int(),
            b"color" => parent.color = value(&mut c).signed().unwrap_or(0),
            b"key" => {
                // `key 0- Init START`: no blank before the dash.
                let mut v = value(&mut c);
                parent.key = v.signed().unwrap_or(0);
                ended = v.0 == b"-";
            }
            b"commId" => {
                let mut v = value(&mut c);
                line.comm_id = v.eat(b"0x").then(|| v.hex()).flatten();
            }
            b"-" => ended = true,
            _ => {}
        }
        if ended {
            c.blanks();
            line.life = what(&mut c)?;
            line.parent = is_child.then_some(parent);
            return Some(Fact::Init(Box::new(InitLine {
                result: result(c.0),
                ..line
            })));
        }
    }
}

fn value<'a>(c: &mut Cur<'a>) -> Cur<'a> {
    c.blanks();
    Cur(c.word())
}

fn what(c: &mut Cur<'_>) -> Option<Life> {
    const WHAT: [(&[u8], Life); 7] = [
        (b"Init START", Life::InitStart),
        (b"Init COMPLETE", Life::InitComplete),
        (b"Destroy COMPLETE", Life::Destroyed),
        (b"Abort START", Life::AbortStart),
        (b"Abort COMPLETE", Life::Aborted),
        (b"Revoke START", Life::RevokeStart),
        (b"Revoke COMPLETE", Life::Revoked),
    ];
    WHAT.iter()
        .find(|(words, _)| c.words(words).is_some())
        .map(|(_, life)| *life)
}

fn result(rest: &[u8]) -> Option<i32> {
    Cur(after(rest, b"result ")?)
        .signed()
        .and_then(|n| i32::try_from(n).ok())
}

/// `… nNodes` was just read: ` 2 localRanks 4 localRank 2 MNNVL 0`
fn placement(mut c: Cur<'_>, comm: u64, rank: u32, nranks: u32) -> Option<Fact> {
    let nodes = value(&mut c).int()?;
    c.lit(b" localRanks ")?;
    let local_ranks = c.int()?;
    c.lit(b" localRank ")?;
    let local_rank = c.int()?;
    c.lit(b" MNNVL ")?;
    let mnnvl = c.num()? != 0;
    Some(Fact::Placement {
        comm,
        rank,
        nranks,
        nodes,
        local_ranks,
        local_rank,
        mnnvl,
    })
}

/// `START comm %p rank %d nRanks %d …` or `END comm %p result %d`, which names neither rank nor size.
pub(super) fn revoke_async(mut c: Cur<'_>) -> Option<Fact> {
    let start = c.eat(b"START comm ");
    if !start {
        c.lit(b"END comm ")?;
    }
    let comm = c.pointer().filter(|p| *p != 0);
    let (mut rank, mut nranks, mut cuda_dev) = (0, 0, None);
    if start {
        c.lit(b" rank ")?;
        rank = c.int()?;
        c.lit(b" nRanks ")?;
        nranks = c.int()?;
        cuda_dev = after(c.0, b" cudaDev ").and_then(|s| Cur(s).int());
    }
    Some(Fact::Init(Box::new(InitLine {
        life: if start {
            Life::RevokeStart
        } else {
            Life::Revoked
        },
        func: InitFunc::Unnamed,
        comm,
        rank,
        nranks,
        cuda_dev,
        nvml_dev: None,
        bus_id: None,
        comm_id: None,
        parent: None,
        result: result(c.0),
    })))
}
