//! Hand-made scenes for the screens, and what a screen looks like as text and roles.

use std::fmt::Write as _;
use std::sync::Arc;

use ncclscope::model::Model;
use ncclscope::model::event::{Feed, Session};
use ncclscope::model::screen::Screen;
use ncclscope::panes;
use ncclscope::parse::At;
use ncclscope::rules::scene::*;
use ncclscope::theme::{Role, Theme};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

/// 03:10:00 on some day, and seconds after it.
pub fn at(seconds: i64) -> At {
    At {
        ns: (1_790_000_000 / 86_400 * 86_400 + 3 * 3_600 + 600 + seconds) * 1_000_000_000,
        exact: true,
    }
}

pub fn line(source: u32, number: u64, seconds: i64, text: &str) -> LineRef {
    LineRef {
        source,
        number,
        at: Some(at(seconds)),
        text: Arc::from(text),
    }
}

/// What stands between two ranks of a communicator.
#[derive(Clone, Copy, PartialEq)]
pub enum Link {
    P2p,
    Gdr,
    Tcp { bad: bool },
}

/// A job of `pods` × `gpus` with one tensor-parallel ring over all of it or one a pod.
pub struct Job {
    pub pods: u32,
    pub gpus: u32,
    /// Ranks of a tensor-parallel group.
    pub tp: u32,
    /// The pod whose GPUs talk over sockets.
    pub broken: Option<u32>,
}

impl Job {
    pub fn host(&self, rank: u32) -> String {
        format!("mixtral-0-{}", rank / self.gpus)
    }

    fn link(&self, from: u32, to: u32) -> Link {
        match (from / self.gpus, to / self.gpus) {
            (a, b) if a == b && self.broken == Some(a) => Link::Tcp { bad: true },
            (a, b) if a == b => Link::P2p,
            _ => Link::Gdr,
        }
    }

    fn edge(&self, from: u32, to: u32, global: (u32, u32)) -> Edge {
        let link = self.link(global.0, global.1);
        let (transport, family) = match link {
            Link::P2p => ("P2P/CUMEM/read", Family::P2p),
            Link::Gdr => ("NET/IB/0/GDRDMA", Family::Net),
            Link::Tcp { .. } => ("NET/Socket/0", Family::Net),
        };
        let source = global.0 / self.gpus;
        let text = format!(
            "{}:{}:900 [{}] NCCL INFO Channel 00/0 : {from}[{from}] -> {to}[{to}] [send] via {transport}",
            self.host(global.0),
            200 + global.0,
            global.0 % self.gpus
        );
        let net = family == Family::Net;
        let side = Side {
            device: 0,
            gdr: link == Link::Gdr,
            pxn_rank: None,
            shared: false,
        };
        let channels: Vec<u16> = (0..16).collect();
        let first = line(source, 800 + u64::from(global.0), 30, &text);
        Edge {
            from: Some(from),
            to: Some(to),
            kind: Some(EdgeKind::Coll),
            transport: transport.into(),
            via: None,
            family,
            network: net.then(|| {
                if link == Link::Gdr {
                    "IB".into()
                } else {
                    "Socket".into()
                }
            }),
            gdr: net.then_some(link == Link::Gdr),
            channels: channels.clone(),
            same_host: Some(link != Link::Gdr),
            attribution: Attribution::Exact,
            paths: if net {
                vec![Path {
                    send: Some(side),
                    receive: Some(side),
                    channels,
                }]
            } else {
                Vec::new()
            },
            lines: vec![first.clone()],
            line: first,
            rating: if link == (Link::Tcp { bad: true }) {
                Rating::Downgraded
            } else {
                Rating::Fine
            },
        }
    }

    /// One ring over these global ranks.
    fn communicator(&self, group: &str, members: &[u32]) -> Communicator {
        let n = members.len() as u32;
        let mut edges = Vec::new();
        for i in 0..n {
            for j in [(i + n - 1) % n, (i + 1) % n] {
                if i != j
                    && !edges
                        .iter()
                        .any(|e: &Edge| e.from == Some(i) && e.to == Some(j))
                {
                    edges.push(self.edge(i, j, (members[i as usize], members[j as usize])));
                }
            }
        }
        edges.sort_by_key(|e| (e.from, e.to));
        Communicator {
            key: format!("c0ffee{:010x}/{n}", members[0]),
            comm_id: Some(format!("c0ffee{:010x}", members[0])),
            parent: None,
            nranks: n,
            nccl_version: Some("2.27.7".into()),
            group: Some(group.into()),
            state: CommState::Complete,
            unseen_ranks: Vec::new(),
            unseen_count: 0,
            missing_ranks: Some(Vec::new()),
            incomplete_ranks: Vec::new(),
            ranks: members
                .iter()
                .enumerate()
                .map(|(i, g)| Member {
                    rank: i as u32,
                    process: *g,
                    cuda_dev: Some(g % self.gpus),
                    nvml_dev: Some(g % self.gpus),
                    bus_id: Some(format!("{:x}000", 0x3b + 0x10 * (g % self.gpus))),
                    state: CommState::Complete,
                    step: NcclStep::Completion,
                    line: line(g / self.gpus, 20, 20, ""),
                })
                .collect(),
            edges,
            rings: (0..2)
                .map(|channel| Ring {
                    channel,
                    order: (0..n).collect(),
                    complete: true,
                })
                .collect(),
            trees: (0..n)
                .map(|rank| TreeView {
                    channel: 0,
                    rank,
                    up: rank.checked_sub(1),
                    down: (rank + 1 < n).then_some(rank + 1).into_iter().collect(),
                })
                .collect(),
            channel_counts: Some((16, Some(16), 16, 2)),
            p2p_chunk_bytes: Some(524_288),
            init_seconds: Some(1.42),
            since: Some(at(20)),
        }
    }

    pub fn scene(&self) -> Scene {
        let ranks = self.pods * self.gpus;
        let groups: Vec<Vec<u32>> = (0..ranks / self.tp)
            .map(|g| (g * self.tp..(g + 1) * self.tp).collect())
            .collect();
        let mut comms: Vec<Communicator> = groups
            .iter()
            .enumerate()
            .map(|(i, m)| self.communicator(&format!("tp:{i}"), m))
            .collect();
        if groups.len() > 1 {
            let pp: Vec<u32> = groups.iter().map(|g| g[0]).collect();
            comms.push(self.communicator("pp:0", &pp));
        }
        let glyph = |e: &Edge| match e.family {
            Family::P2p => Glyph::P2p,
            _ if e.gdr == Some(true) => Glyph::NetGdr,
            _ => Glyph::Tcp,
        };
        let mut merged: Vec<Cell> = Vec::new();
        let mut matrices = vec![Matrix::default()];
        for (c, comm) in comms.iter().enumerate() {
            let cell = |e: usize, edge: &Edge, from: u32, to: u32| Cell {
                from,
                to,
                glyph: glyph(edge),
                downgraded: edge.rating == Rating::Downgraded,
                disagree: false,
                inferred: false,
                edges: vec![(c as u32, e as u32)],
                open: Vec::new(),
            };
            let mut own = Vec::new();
            for (e, edge) in comm.edges.iter().enumerate() {
                let (a, b) = (edge.from.unwrap(), edge.to.unwrap());
                own.push(cell(e, edge, a, b));
                merged.push(cell(
                    e,
                    edge,
                    comm.ranks[a as usize].process,
                    comm.ranks[b as usize].process,
                ));
            }
            matrices.push(Matrix {
                name: comm.key.clone(),
                label: comm.group.clone().unwrap(),
                slots: comm
                    .ranks
                    .iter()
                    .map(|m| Slot {
                        number: m.rank,
                        proven: true,
                        process: Some(m.process),
                        host: self.host(m.process),
                    })
                    .collect(),
                cells: own,
                groups: Vec::new(),
                undecided: Vec::new(),
                headline: "every connection is as its place allows".into(),
            });
        }
        merged.sort_by_key(|c| (c.from, c.to));
        merged.dedup_by_key(|c| (c.from, c.to));
        let bad = merged.iter().filter(|c| c.downgraded).count();
        matrices[0] = Matrix {
            name: "all".into(),
            label: "all".into(),
            slots: (0..ranks)
                .map(|r| Slot {
                    number: r,
                    proven: true,
                    process: Some(r),
                    host: self.host(r),
                })
                .collect(),
            cells: merged,
            groups: comms
                .iter()
                .map(|c| c.ranks.iter().map(|m| m.process).collect())
                .collect(),
            undecided: Vec::new(),
            headline: match self.broken {
                Some(p) => format!(
                    "{bad} edges inside mixtral-0-{p} use TCP; everything else is as the hardware allows"
                ),
                None => "every connection is as its place allows".into(),
            },
        };
        let slow = self.broken;
        let processes = (0..ranks)
            .map(|r| {
                let late = slow == Some(r / self.gpus);
                ProcessView {
                    source: r / self.gpus,
                    sources: vec![r / self.gpus],
                    first_line: 1,
                    incarnation: 1,
                    pod: Some(self.host(r)),
                    namespace: Some("prod".into()),
                    host: Some(self.host(r)),
                    pid: Some(u64::from(200 + r)),
                    global_rank: Some(r),
                    local_rank: Some(r % self.gpus),
                    tp: Some(r % self.tp),
                    pp: Some(r / self.tp),
                    nccl_step: Some(NcclStep::Completion),
                    stage: Some(if late {
                        Stage::NcclInit
                    } else {
                        Stage::Weights
                    }),
                    stage_since: Some(at(if late { 20 } else { 70 })),
                    progress: (!late).then_some(Progress {
                        done: 31,
                        total: 59,
                        unit: "shards",
                        ..Progress::default()
                    }),
                    last_at: Some(at(140)),
                    ..ProcessView::default()
                }
            })
            .collect();
        let findings = self.broken.map(|p| {
            let first = merged_line(&comms, p, self);
            let mut f = Finding::new(
                "nccl.same-host-net",
                &format!("{}:mixtral-0-{p}", comms[0].key),
                Severity::Error,
                Class::Configuration,
                Evidence::Line(first),
            );
            f.title = format!("GPUs of mixtral-0-{p} talk to each other over TCP");
            f.since = Some(at(30));
            f.ranks = (p * self.gpus..(p + 1) * self.gpus).collect();
            f.hosts = vec![format!("mixtral-0-{p}")];
            f.cause = format!("{bad} of {bad} edges inside mixtral-0-{p} are NET/Socket; NCCL_P2P_DISABLE=1 and NCCL_SHM_DISABLE=1 in this pod alone");
            f.fix = vec!["unset NCCL_P2P_DISABLE and NCCL_SHM_DISABLE in spec.leaderWorkerTemplate.workerTemplate".into()];
            f
        });
        let findings: Vec<Finding> = findings.into_iter().collect();
        let verdict = if findings.is_empty() {
            Verdict::Starting
        } else {
            Verdict::Degraded
        };
        let summary = findings.first().map_or_else(
            || format!("{ranks} of {ranks} ranks load weights, nothing is wrong"),
            |f| f.title.clone(),
        );
        Scene {
            now: Some(at(144)),
            verdict,
            summary: summary.clone(),
            sources: (0..self.pods)
                .map(|p| SourceView {
                    name: format!("prod/mixtral-0-{p}/vllm"),
                    pod: Some(format!("prod/mixtral-0-{p}")),
                    container: Some("vllm".into()),
                    bytes: 700_000,
                    lines: 4_310,
                    nccl_lines: 2_200,
                    vllm_lines: 160,
                    last_stamp: Some(At {
                        ns: at(143).ns + 600_000_000,
                        exact: true,
                    }),
                    ..SourceView::default()
                })
                .collect(),
            workloads: vec![Workload {
                name: Some("lws/mixtral-0".into()),
                verdict,
                summary,
                processes: (0..ranks).collect(),
                communicators: (0..comms.len() as u32).collect(),
                expected_ranks: Some(ranks),
                model: None,
                sizes: [Some(self.tp), Some(ranks / self.tp), None, None],
                context: [None; 2],
            }],
            processes,
            communicators: comms.into_iter().map(Arc::new).collect(),
            unattributed: Arc::default(),
            findings,
            matrices: matrices.into_iter().map(Arc::new).collect(),
            pods: (0..self.pods)
                .map(|p| PodRow {
                    namespace: "prod".into(),
                    name: format!("mixtral-0-{p}"),
                    uid: format!("7f0c{p:04x}"),
                    index: Some(p),
                    status: "Running".into(),
                    ready: "1/1".into(),
                    restarts: "0".into(),
                    created: Some(at(0).ns),
                    node: Some(format!("gpu-node-{:02}", p + 11)),
                    ip: Some(format!("10.42.{p}.17")),
                    gpus: self.gpus,
                    image: Some("vllm-openai:v0.11.2".into()),
                    ranks: (p * self.gpus..(p + 1) * self.gpus).collect(),
                    ..PodRow::default()
                })
                .collect(),
            ..Scene::default()
        }
    }
}

fn merged_line(comms: &[Communicator], pod: u32, job: &Job) -> LineRef {
    comms
        .iter()
        .flat_map(|c| &c.edges)
        .find(|e| e.rating == Rating::Downgraded)
        .map_or_else(|| line(pod, 1, 0, &job.host(0)), |e| e.line.clone())
}

/// Two pods of four GPUs, all well.
pub fn healthy() -> Scene {
    Job {
        pods: 2,
        gpus: 4,
        tp: 8,
        broken: None,
    }
    .scene()
}

/// Two pods of eight GPUs, sockets between the GPUs of the second.
pub fn sockets() -> Scene {
    Job {
        pods: 2,
        gpus: 8,
        tp: 8,
        broken: Some(1),
    }
    .scene()
}

/// 64 ranks in eight pods.
pub fn sixty_four() -> Scene {
    Job {
        pods: 8,
        gpus: 8,
        tp: 16,
        broken: Some(3),
    }
    .scene()
}

/// 1,024 ranks in 128 pods.
pub fn thousand() -> Scene {
    Job {
        pods: 128,
        gpus: 8,
        tp: 8,
        broken: Some(77),
    }
    .scene()
}

/// A model whose screen has this size, on a cluster.
pub fn model(w: u16, h: u16) -> Model {
    let mut model = Model::for_screen();
    model.screen = Screen::new(w, h);
    model.session = Session {
        feed: Feed::Cluster,
        context: Some("gpu-eu".into()),
        namespace: Some("prod".into()),
        workload: Some("lws/mixtral-0".into()),
        ..Session::default()
    };
    model
}

/// Does what these commands mean, with the counts that the shell would set before each.
pub fn act(scene: &Scene, model: &mut Model, commands: &[ncclscope::model::event::Command]) {
    for command in commands {
        model.screen.counts = panes::counts(scene, model);
        model.screen.apply(command);
    }
    model.screen.counts = panes::counts(scene, model);
}

/// Draws the whole screen.
pub fn draw(scene: &Scene, model: &Model, theme: &Theme) -> Buffer {
    let (w, h) = model.screen.size;
    let area = Rect::new(0, 0, w, h);
    let mut buf = Buffer::empty(area);
    panes::view(scene, model, theme, area, &mut buf);
    buf
}

/// The text of a buffer, a line a row.
pub fn text(buf: &Buffer) -> Vec<String> {
    let area = buf.area;
    (area.top()..area.bottom())
        .map(|y| {
            let mut row = String::new();
            let mut skip = false;
            for x in area.left()..area.right() {
                let symbol = buf.cell((x, y)).map_or(" ", |c| c.symbol());
                if !std::mem::take(&mut skip) {
                    row.push_str(symbol);
                }
                skip = symbol
                    .chars()
                    .next()
                    .and_then(unicode_width::UnicodeWidthChar::width)
                    == Some(2);
            }
            row.trim_end().to_owned()
        })
        .collect()
}

/// Text and role runs of a screen drawn with the probe theme: what snapshots keep.
pub fn photograph(scene: &Scene, model: &Model) -> String {
    let buf = draw(scene, model, &Theme::probe(false));
    let area = buf.area;
    let name = |c: Color| match c {
        Color::Indexed(i) => Role::ALL.get(usize::from(i)).map(|r| r.name()),
        _ => None,
    };
    let rows = text(&buf);
    let widest = rows.iter().map(|r| r.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (row, y) in rows.iter().zip(area.top()..) {
        let mut runs: Vec<(String, u16, u16)> = Vec::new();
        for x in area.left()..area.right() {
            let Some(cell) = buf.cell((x, y)) else {
                continue;
            };
            let mut role = name(cell.fg).unwrap_or("-").to_owned();
            if let Some(over) = name(cell.bg) {
                role = format!("{role}+{over}");
            } else if cell.symbol() == " " {
                // What an empty cell would look like says nothing.
                continue;
            }
            match runs.last_mut() {
                Some((r, _, end)) if *r == role && x <= *end + 2 => *end = x,
                _ => runs.push((role, x, x)),
            }
        }
        let runs: Vec<String> = runs
            .into_iter()
            .filter(|(r, ..)| r != "text")
            .map(|(r, a, b)| {
                if a == b {
                    format!("{r}@{a}")
                } else {
                    format!("{r}@{a}-{b}")
                }
            })
            .collect();
        let pad = widest - row.chars().count();
        let _ = writeln!(out, "{row}{} │ {}", " ".repeat(pad), runs.join(" "));
    }
    out.lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n")
}
