//! The judge over pairs of pods: any single bad pod or link is convicted, and nobody else.

use ncclscope::model::testrun::PairRate;
use ncclscope::rules::pairs::{Judged, Pairs, judge, sentence};

/// Numbers between 0 and 1 that are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }
}

/// Two turns as the script makes them: all pairs, then the suspects and one to compare them with.
fn measured(n: u32, noise: &mut Noise, share: &dyn Fn(u32, u32) -> f64) -> Pairs {
    let mut pairs = Pairs::new();
    let mut rate = |a: u32, b: u32| 100.0 * share(a, b) * (0.88 + 0.12 * noise.next());
    for a in 0..n {
        for b in a + 1..n {
            let first = rate(a, b);
            pairs.insert(
                (a, b),
                PairRate {
                    first,
                    ..PairRate::default()
                },
            );
        }
    }
    let first = judge(&pairs);
    let control = pairs.keys().copied().find(|p| !first.suspected.contains(p));
    for pair in first.suspected.iter().copied().chain(control) {
        let again = rate(pair.0, pair.1);
        pairs.get_mut(&pair).expect("measured").again = Some(again);
    }
    pairs
}

fn convicted(judged: &Judged) -> (Vec<u32>, Vec<(u32, u32)>) {
    (judged.pods.clone(), judged.links.clone())
}

#[test]
fn any_single_bad_pod_or_link_is_convicted_and_nobody_else() {
    let mut noise = Noise(7);
    for n in 3..=14 {
        for share in [0.05, 0.3, 0.5] {
            let well = judge(&measured(n, &mut noise, &|_, _| 1.0));
            assert!(
                !well.convicts() && well.suspected.is_empty(),
                "{n}: {well:?}"
            );
            for bad in 0..n {
                let of = |a, b| if a == bad || b == bad { share } else { 1.0 };
                let judged = judge(&measured(n, &mut noise, &of));
                assert_eq!(
                    convicted(&judged),
                    (vec![bad], vec![]),
                    "{n} pods, pod {bad} at {share}"
                );
                for other in bad + 1..n {
                    let of = |a, b| if (a, b) == (bad, other) { share } else { 1.0 };
                    let judged = judge(&measured(n, &mut noise, &of));
                    assert_eq!(
                        convicted(&judged),
                        (vec![], vec![(bad, other)]),
                        "{n} pods, {bad} to {other} at {share}"
                    );
                }
            }
        }
    }
}

/// What was slow among others and is well alone is nobody's fault.
#[test]
fn the_second_turn_acquits() {
    let mut pairs = measured(6, &mut Noise(3), &|a, b| {
        if (a, b) == (1, 4) { 0.2 } else { 1.0 }
    });
    assert!(judge(&pairs).convicts());
    pairs.get_mut(&(1, 4)).expect("measured").again = Some(97.0);
    assert!(!judge(&pairs).convicts());
}

#[test]
fn two_pods_are_not_compared_and_wrong_elements_need_no_comparison() {
    let rate = |wrong| PairRate {
        first: 3.0,
        again: None,
        wrong,
    };
    let name = |pod: u32| format!("gpu-{pod}");
    let two = judge(&Pairs::from([((0, 1), rate(0))]));
    assert!(!two.convicts());
    assert!(sentence(&two, &name).contains("none to compare"));
    let wrong = judge(&Pairs::from([((0, 1), rate(5))]));
    assert_eq!(
        sentence(&wrong, &name),
        "Guilty: the link between gpu-0 and gpu-1 or one of the two, results are wrong."
    );
    let three = Pairs::from([((0, 1), rate(9)), ((0, 2), rate(0)), ((1, 2), rate(9))]);
    assert_eq!(
        sentence(&judge(&three), &name),
        "Guilty: gpu-1, each of its 2 pairs is slow or wrong."
    );
}
