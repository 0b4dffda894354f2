//! What is better seen than read: the matrix, memory over time, bandwidth over size.

use std::collections::BTreeMap;

use super::{Page, curves};
use crate::report::matrix::{letter, mark, mark_meaning, signs};
use crate::rules::scene::{Glyph, Mark, Matrix};

/// Longest matrix side that is drawn rank by rank.
const MATRIX_SIDE: usize = 64;
/// Curves in one picture that can be told apart.
const LINES: usize = 8;

/// Memory of one GPU over time: seconds and gigabytes.
struct Filled {
    name: String,
    node: String,
    points: Vec<(f64, f64)>,
}

/// The GPUs of a node together. They are sampled at one pace, not at one moment: each counts with what it had last.
fn per_node(all: Vec<Filled>) -> Vec<Filled> {
    let mut nodes: BTreeMap<String, Vec<Filled>> = BTreeMap::new();
    for gpu in all {
        nodes.entry(gpu.node.clone()).or_default().push(gpu);
    }
    let sum = |(node, gpus): (String, Vec<Filled>)| {
        let mut changes: Vec<(f64, usize, f64)> = Vec::new();
        for (i, gpu) in gpus.iter().enumerate() {
            changes.extend(gpu.points.iter().map(|(at, used)| (*at, i, *used)));
        }
        changes.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut now = vec![0.0; gpus.len()];
        let mut points: Vec<(f64, f64)> = Vec::new();
        for (at, i, used) in changes {
            if let Some(last) = now.get_mut(i) {
                *last = used;
            }
            let total = now.iter().sum();
            match points.last_mut() {
                // Within one round of the sampler.
                Some(point) if at - point.0 < 1.0 => point.1 = total,
                _ => points.push((at, total)),
            }
        }
        Filled {
            name: node.clone(),
            node,
            points,
        }
    };
    nodes.into_iter().map(sum).collect()
}

impl Page<'_> {
    pub(super) fn matrix(&mut self) {
        let Some(merged) = self.scene.matrices.first().filter(|m| !m.cells.is_empty()) else {
            return;
        };
        let folded;
        let (shown, about) = if merged.slots.len() <= MATRIX_SIDE {
            (&**merged, "rank by rank: the row sends to the column")
        } else {
            folded = merged.by_host();
            if folded.slots.len() > MATRIX_SIDE {
                let headline = self.text(&merged.headline);
                self.section("matrix", "Transports", "");
                self.put(&format!("<p>{headline}</p></section>\n"));
                return;
            }
            (
                &folded,
                "host by host, the worst transport: the row sends to the column",
            )
        };
        self.section("matrix", "Transports", about);
        if !merged.headline.is_empty() {
            let headline = self.text(&merged.headline);
            self.put(&format!("<p>{headline}</p>\n"));
        }
        self.grid(shown);
        let (glyphs, marks) = signs(shown);
        self.put("<ul class=\"legend\">");
        for glyph in glyphs {
            self.put(&format!(
                "<li><span class=\"g g{}\">{}</span> {}</li>",
                class_of(glyph),
                letter(glyph),
                glyph.words()
            ));
        }
        for sign in marks {
            self.put(&format!(
                "<li><span class=\"g down\">{}</span> {}</li>",
                mark(sign),
                mark_meaning(sign)
            ));
        }
        self.put("</ul></section>\n");
    }

    fn grid(&mut self, m: &Matrix) {
        self.put("<div class=\"wide\" tabindex=\"0\"><table class=\"matrix\"><thead><tr><td></td>");
        for slot in &m.slots {
            self.put(&format!("<th scope=\"col\">{}</th>", slot.number));
        }
        self.put("<td></td></tr></thead><tbody>\n");
        let mut before: Option<&str> = None;
        for (i, from) in (0_u32..).zip(&m.slots) {
            let border = before.is_some_and(|host| host != from.host);
            let host = if before == Some(from.host.as_str()) {
                String::new()
            } else {
                self.text(&from.host)
            };
            before = Some(&from.host);
            self.put(&format!(
                "<tr{}><th scope=\"row\">{}</th>",
                if border { " class=\"host\"" } else { "" },
                from.number
            ));
            let mut left: Option<&str> = None;
            for (j, to) in (0_u32..).zip(&m.slots) {
                let edge = left.is_some_and(|host| host != to.host);
                left = Some(&to.host);
                let host = if edge { " host" } else { "" };
                let Some(glyph) = m.shown(i, j) else {
                    self.put(&if i == j {
                        format!("<td class=\"self{host}\">╲</td>")
                    } else {
                        format!("<td class=\"{}\"></td>", host.trim())
                    });
                    continue;
                };
                let cell = m.cell(i, j);
                let behind = cell.and_then(|c| c.mark());
                let also = behind.map_or(String::new(), |b| format!(", {}", mark_meaning(b)));
                self.put(&format!(
                    "<td class=\"g g{}{}{host}\" title=\"{} to {}: {}{also}\">{}{}</td>",
                    class_of(glyph),
                    match behind {
                        Some(Mark::Downgraded | Mark::Disagree) => " down",
                        Some(Mark::Open) | None => "",
                    },
                    from.number,
                    to.number,
                    glyph.words(),
                    letter(glyph),
                    behind.map(mark).map(String::from).unwrap_or_default()
                ));
            }
            self.put(&format!("<td class=\"name\">{host}</td></tr>\n"));
        }
        self.put("</tbody></table></div>\n");
    }

    /// Memory over time: GPU by GPU where they are few, else node by node.
    pub(super) fn memory(&mut self) {
        let mut lines = self.filled();
        if lines.is_empty() {
            return;
        }
        let by_node = lines.len() > LINES;
        if by_node {
            lines = per_node(lines);
        }
        let about = if by_node {
            "node by node"
        } else {
            "GPU by GPU"
        };
        self.section("memory", "Memory in use", about);
        let more = lines.len().saturating_sub(LINES);
        let series: Vec<curves::Series> = lines
            .into_iter()
            .take(LINES)
            .map(|line| curves::Series {
                label: self.text(if by_node { &line.node } else { &line.name }),
                points: line.points,
            })
            .collect();
        let drawn = curves::memory(&series);
        self.put(&drawn);
        if more > 0 {
            self.put(&format!("<p class=\"meta\">and {more} more</p>\n"));
        }
        self.put("</section>\n");
    }

    /// What is known of each GPU's memory, in the order of ranks.
    fn filled(&self) -> Vec<Filled> {
        let gpus = self.scene.gpus.iter().filter_map(|g| {
            let points = self.model.gpus.get(g.key.as_deref()?)?.curve.points();
            let (first, last) = (points.first()?, points.last()?);
            // One moment is no curve.
            if last.0 <= first.0 {
                return None;
            }
            let place = g.bus_id.clone().or_else(|| g.uuid.clone());
            #[expect(clippy::cast_precision_loss, reason = "a picture for people")]
            let points = points
                .iter()
                .map(|(at, used)| (*at as f64 / 1e9, *used as f64 / 1e9))
                .collect();
            Some(Filled {
                name: match g.global_rank {
                    Some(rank) => format!("rank {rank}"),
                    None => format!("GPU {}", place.unwrap_or_default()),
                },
                node: g.node.clone().unwrap_or_else(|| "this node".into()),
                points,
            })
        });
        gpus.collect()
    }

    pub(super) fn test(&mut self) {
        let Some(test) = self.scene.test.as_deref() else {
            return;
        };
        self.section("test", "All-reduce test", "");
        let sentence = self.text(&test.sentence);
        self.put(&format!("<p>{sentence}</p>\n"));
        let series: Vec<curves::Series> = test
            .series
            .iter()
            .map(|s| curves::Series {
                label: self.text(&s.label),
                points: s
                    .points
                    .iter()
                    .map(|(bytes, (half, _))| (*bytes as f64, half.busbw))
                    .collect(),
            })
            .collect();
        let drawn = curves::busbw(&series, test.expected);
        self.put(&drawn);
        let sizes = test.sizes();
        if !sizes.is_empty() {
            self.put("<details><summary>rows</summary><table><thead><tr><th>size</th>");
            for s in &series {
                self.put(&format!("<th>{} GB/s</th>", s.label));
            }
            self.put("<th>wrong</th></tr></thead><tbody>\n");
            for bytes in sizes {
                self.put(&format!(
                    "<tr><td>{}</td>",
                    crate::rules::busbw::size(bytes)
                ));
                for s in &test.series {
                    let cell = s
                        .points
                        .get(&bytes)
                        .map_or_else(String::new, |(h, _)| format!("{:.2}", h.busbw));
                    self.put(&format!("<td class=\"num\">{cell}</td>"));
                }
                let wrong = test
                    .wrong(bytes)
                    .map_or_else(String::new, |n| n.to_string());
                self.put(&format!("<td class=\"num\">{wrong}</td></tr>\n"));
            }
            self.put("</tbody></table></details>\n");
        }
        self.put("</section>\n");
    }
}

/// How good a transport is, as a class of the style sheet: the letter tells, the colour helps.
fn class_of(glyph: Glyph) -> &'static str {
    match glyph {
        Glyph::Mnnvl | Glyph::P2p => "1",
        Glyph::P2pWeak | Glyph::CollNet | Glyph::NetGdr => "2",
        Glyph::Shm | Glyph::Net => "3",
        Glyph::Tcp => "4",
        Glyph::Doubt => "0",
        Glyph::Missing => "none",
    }
}
