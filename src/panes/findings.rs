//! A finding in full: what is wrong, since when, the proof, the cause, the fix.

use super::parts;
use super::{Line, Page};
use crate::rules::scene::{Confidence, Evidence, Finding, Scene};
use crate::theme::Role;

/// The page of one finding.
#[must_use]
pub fn page(scene: &Scene, index: usize, width: u16) -> Option<Page> {
    let finding = scene.findings.get(index)?;
    let room = width.saturating_sub(4);
    let mut page = Page::about(format!("finding {}   {}", index + 1, finding.title));
    let (word, role) = parts::severity(finding.severity);
    page.line(&[
        (word, role),
        (&format!("   {}", standing(finding)), Role::Quiet),
    ]);
    page.line(&[("id  ", Role::Label), (&finding.key, Role::Text)]);
    for (name, who) in about(finding) {
        page.line(&[(&format!("{name}  "), Role::Label), (&who, Role::Text)]);
    }
    if !finding.cause.is_empty() {
        page.head("WHY");
        page.prose(&finding.cause, room, 2, Role::Text);
    }
    if !finding.fix.is_empty() {
        page.head("WHAT TO DO");
        for fix in &finding.fix {
            page.code(fix);
        }
    }
    page.head("PROOF");
    for proof in finding.evidence() {
        evidence(scene, proof, &mut page);
    }
    if let Some(cause) = &finding.consequence_of {
        let by = scene.findings.iter().position(|f| f.key == *cause);
        let text = by.map_or_else(|| cause.clone(), |i| format!("finding {}", i + 1));
        page.head("EXPLAINED BY");
        page.line(&[("  ", Role::Text), (&text, Role::Text)]);
    }
    let echoes: Vec<String> = scene
        .findings
        .iter()
        .enumerate()
        .filter(|(_, f)| f.consequence_of.as_deref() == Some(finding.key.as_str()))
        .map(|(i, f)| format!("{}  {}", i + 1, f.title))
        .collect();
    if !echoes.is_empty() {
        page.head("EXPLAINS");
        for echo in echoes {
            page.line(&[("  ", Role::Text), (&echo, Role::Text)]);
        }
    }
    Some(page)
}

/// `likely   since 03:14:07   network`.
fn standing(finding: &Finding) -> String {
    let confidence = match finding.confidence {
        Confidence::Certain => "certain",
        Confidence::Likely => "likely",
        Confidence::Possible => "possible",
    };
    let class = format!("{:?}", finding.class).to_lowercase();
    let since = finding
        .since
        .map_or(String::new(), |at| format!("   since {}", parts::clock(at)));
    format!("{confidence}   {class}{since}")
}

/// Whom it is about: ranks, hosts, pods, GPUs, communicator.
fn about(finding: &Finding) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if !finding.ranks.is_empty() {
        out.push(("ranks", parts::ranges(&finding.ranks)));
    }
    for (name, list) in [
        ("hosts", &finding.hosts),
        ("pods", &finding.pods),
        ("GPUs", &finding.gpus),
    ] {
        if !list.is_empty() {
            out.push((name, list.join(", ")));
        }
    }
    out.extend(finding.communicator.clone().map(|c| ("communicator", c)));
    out
}

fn evidence(scene: &Scene, proof: &Evidence, page: &mut Page) {
    match proof {
        Evidence::Line(l) => {
            let source = scene
                .sources
                .get(l.source as usize)
                .map_or("?", |s| s.name.as_str());
            let at =
                l.at.map_or(String::new(), |a| format!("{}  ", parts::clock(a)));
            page.line(&[(&format!("  {at}line {} of {source}", l.number), Role::Quiet)]);
            let text = Line::of(&[("    ", Role::Text), (&l.text, Role::Text)]);
            page.lines.push(Line {
                copy: Some(l.text.to_string()),
                ..text
            });
        }
        Evidence::Object(t) => page.line(&[("  object  ", Role::Label), (t, Role::Text)]),
        Evidence::Sample(t) => page.line(&[("  sample  ", Role::Label), (t, Role::Text)]),
        Evidence::Check(t) => page.line(&[("  check   ", Role::Label), (t, Role::Text)]),
    }
}
