//! The reasons of an event by code: one entry for the image and its objects together.

use crate::event::{EventReason, QualityEvent};
use crate::method::{ReasonCode, Scope};

/// All reasons of an event with one code.
#[derive(Debug, Clone, PartialEq)]
pub struct ReasonGroup<'a> {
    /// The distortion.
    pub code: ReasonCode,
    /// The greatest strength.
    pub strength: f64,
    /// The parts with the distortion, such as `image, regions 0, 3`.
    pub scopes: String,
    /// The sentence for the person who uploaded the image.
    pub text: &'a str,
}

impl<'a> ReasonGroup<'a> {
    /// Groups the reasons of an event, in their order.
    pub fn of(event: &'a QualityEvent) -> Vec<Self> {
        let reasons = event.reasons.as_deref().unwrap_or_default();
        let mut codes: Vec<ReasonCode> = Vec::new();
        for reason in reasons {
            if !codes.contains(&reason.code) {
                codes.push(reason.code);
            }
        }
        let group = |code| {
            let of_code: Vec<&EventReason> =
                reasons.iter().filter(|reason| reason.code == code).collect();
            let text = of_code.first()?.text.as_str();
            let strength = of_code.iter().map(|reason| reason.strength).fold(0.0, f64::max);
            Some(ReasonGroup { code, strength, scopes: scopes(&of_code), text })
        };
        codes.into_iter().filter_map(group).collect()
    }
}

fn scopes(reasons: &[&EventReason]) -> String {
    let is_whole = reasons.iter().any(|reason| reason.scope == Scope::IMAGE);
    let regions: Vec<String> = reasons
        .iter()
        .filter_map(|reason| match reason.scope {
            Scope::Region(index) => Some(index.to_string()),
            Scope::Image(_) => None,
        })
        .collect();
    let image = is_whole.then(|| "image".to_owned());
    let regions = match regions.as_slice() {
        [] => None,
        [index] => Some(format!("region {index}")),
        _ => Some(format!("regions {}", regions.join(", "))),
    };
    [image, regions].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
