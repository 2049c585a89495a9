//! Reads the answer of a chat completion: the first token, and the probabilities of the tokens that
//! the server reports in its place.
//!
//! Servers differ in the form of the probabilities. vLLM, SGLang, TGI and llama.cpp follow OpenAI's
//! `logprobs.content[].top_logprobs[]`; mistral.rs numbers the tokens there and has their text in
//! `bytes`; older servers have OpenAI's former map, `logprobs.top_logprobs[]`.

use std::sync::Arc;

use serde_json::Value;

use crate::engine::server::level_tokens::LevelTokens;
use crate::method::{LevelDistribution, LevelsError, Served, ServedBy};
use crate::redact;

/// Longest excerpt of an answer in a message, in bytes.
const ANSWER_BYTES_MAX: usize = 80;
/// Longest name of a model and longest fingerprint that events repeat, in bytes.
const NAME_BYTES_MAX: usize = 200;
/// Largest sum of probabilities: servers round each to a few digits.
const SUM_MAX: f64 = 1.01;

/// The answer of a server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Completion {
    pub(crate) served_by: ServedBy,
    /// The text of the answer.
    pub(crate) text: String,
    /// The reasoning text, which the server reports apart from the answer; empty if it has none.
    pub(crate) thought: String,
    /// The tokens that the server reports for the first place, or `None` if it reports none.
    pub(crate) tokens: Option<Vec<ReportedToken>>,
}

/// A token that may have been the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ReportedToken {
    pub(crate) text: String,
    /// Probability in 0..=1.
    pub(crate) probability: f64,
}

/// The reason why an answer has no rating.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum NoRating {
    /// No reported token is a level.
    #[error("the server's answer names no level: {0}")]
    NoLevel(String),
    /// The reported numbers are no probabilities.
    #[error("the server's probabilities are no distribution: {0}")]
    Probabilities(String),
}

impl Completion {
    /// Reads the body of a response.
    ///
    /// # Errors
    /// Returns the reason if it is no chat completion.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let answer: Value =
            serde_json::from_slice(body).map_err(|error| format!("it is not JSON: {error}"))?;
        let name = |key: &str| {
            let text = answer.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())?;
            Some(redact::excerpt(text, NAME_BYTES_MAX))
        };
        let choice = answer.pointer("/choices/0").ok_or("it has no choice")?;
        let message = choice.get("message").ok_or("its choice has no message")?;
        let part =
            |key: &str| message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let tokens = choice.get("logprobs").filter(|logprobs| !logprobs.is_null());
        Ok(Self {
            served_by: ServedBy {
                model: name("model"),
                system_fingerprint: name("system_fingerprint"),
            },
            text: part("content").unwrap_or_default().to_owned(),
            thought: part("reasoning_content").or(part("reasoning")).unwrap_or_default().to_owned(),
            tokens: tokens.map(reported).transpose()?.flatten(),
        })
    }

    /// Returns the rating of the answer. The probabilities of all tokens of a level add up, and
    /// those of the levels are normalised to 1.
    ///
    /// # Errors
    /// Fails if no reported token names a level, or if the probabilities sum to more than 1.
    pub(crate) fn rating(&self, levels: &LevelTokens) -> Result<LevelDistribution, NoRating> {
        let Some(tokens) = &self.tokens else { return self.rating_of_text(levels) };
        let mut shares = vec![0.0; levels.levels()];
        let mut reported = 0.0;
        for token in tokens {
            reported += token.probability;
            if let Some(level) = levels.level_of(&token.text) {
                shares[level - 1] += token.probability;
            }
        }
        if !reported.is_finite() || reported > SUM_MAX {
            return Err(NoRating::Probabilities(format!("they sum to {reported}")));
        }
        let on_levels: f64 = shares.iter().sum();
        if on_levels <= 0.0 {
            return Err(self.no_level());
        }
        let off_level = (reported - on_levels).clamp(0.0, 1.0);
        let unreported = (1.0 - reported).clamp(0.0, 1.0);
        let shares = shares.into_iter().map(|share| share / on_levels).collect();
        let rating = LevelDistribution::new(shares)
            .and_then(|rating| rating.with_off_level(off_level))
            .and_then(|rating| rating.with_served(self.served(Some(unreported))));
        rating.map_err(|error| no_distribution(&error))
    }

    /// Returns the level of the answer with the probability 1, if the server reports none.
    fn rating_of_text(&self, levels: &LevelTokens) -> Result<LevelDistribution, NoRating> {
        let level = levels.level_of_answer(&self.text).ok_or_else(|| self.no_level())?;
        let mut shares = vec![0.0; levels.levels()];
        shares[level - 1] = 1.0;
        LevelDistribution::new(shares)
            .and_then(|rating| rating.with_served(self.served(None)))
            .map_err(|error| no_distribution(&error))
    }

    fn served(&self, unreported: Option<f64>) -> Served {
        Served { by: Arc::new(self.served_by.clone()), unreported }
    }

    fn no_level(&self) -> NoRating {
        let likeliest = self.tokens.as_ref().and_then(|tokens| {
            tokens.iter().max_by(|a, b| a.probability.total_cmp(&b.probability))
        });
        let likeliest = likeliest.map(|token| &token.text);
        let shown = |text: &str| redact::excerpt(&redact::uris_in(text), ANSWER_BYTES_MAX);
        let texts = [Some(&self.text), Some(&self.thought), likeliest];
        let reason = match texts.into_iter().flatten().find(|text| !text.is_empty()) {
            Some(text) if self.text.is_empty() && !self.thought.is_empty() => {
                format!("the model thinks first: `{}` (see engine.dog_iqa.http.body)", shown(text))
            }
            Some(text) => format!("`{}`", shown(text)),
            // A server leaves out the text of a special token, and that of a part of a character.
            None => "it is empty: the model ends it, or begins with a special token".to_owned(),
        };
        NoRating::NoLevel(reason)
    }
}

fn no_distribution(error: &LevelsError) -> NoRating {
    NoRating::Probabilities(error.to_string())
}

/// Returns the tokens for the first place of the answer, or `None` if the form has none.
fn reported(logprobs: &Value) -> Result<Option<Vec<ReportedToken>>, String> {
    if let Some(first) = logprobs.pointer("/content/0") {
        let top = first.get("top_logprobs").and_then(Value::as_array);
        let mut tokens: Vec<ReportedToken> =
            top.into_iter().flatten().map(token).collect::<Result<_, _>>()?;
        // The chosen token may be less probable than all listed ones.
        let chosen = token(first)?;
        if !tokens.iter().any(|token| token.text == chosen.text) {
            tokens.push(chosen);
        }
        return Ok(Some(tokens));
    }
    let Some(top) = logprobs.pointer("/top_logprobs/0").and_then(Value::as_object) else {
        return Ok(None);
    };
    let token = |(text, logprob): (&String, &Value)| {
        Ok(ReportedToken { text: text.clone(), probability: probability(Some(logprob))? })
    };
    top.iter().map(token).collect::<Result<_, String>>().map(Some)
}

fn token(entry: &Value) -> Result<ReportedToken, String> {
    let text = text_of_bytes(entry.get("bytes"))
        .or_else(|| entry.get("token").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default();
    Ok(ReportedToken { text, probability: probability(entry.get("logprob"))? })
}

/// Returns the text in `bytes`: numbers, or a text already.
fn text_of_bytes(bytes: Option<&Value>) -> Option<String> {
    match bytes? {
        Value::String(text) => Some(text.clone()),
        Value::Array(numbers) => {
            let byte = |number: &Value| u8::try_from(number.as_u64()?).ok();
            String::from_utf8(numbers.iter().map(byte).collect::<Option<_>>()?).ok()
        }
        _ => None,
    }
}

/// Returns the probability of a logarithm. Servers write `-9999` or `null` for one of 0.
fn probability(logprob: Option<&Value>) -> Result<f64, String> {
    match logprob {
        Some(Value::Null) => Ok(0.0),
        Some(Value::Number(number)) => {
            let probability = number.as_f64().map_or(f64::NAN, f64::exp);
            if probability <= SUM_MAX {
                Ok(probability.min(1.0))
            } else {
                Err(format!("a token has the logarithm {number} of a probability"))
            }
        }
        _ => Err("a token has no probability".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::method::{Standard, StandardForm};

    fn levels() -> LevelTokens {
        LevelTokens::new(&Standard::builtin(7, StandardForm::Word).unwrap())
    }

    fn parse(answer: &Value) -> Completion {
        Completion::parse(answer.to_string().as_bytes()).unwrap()
    }

    fn rate(answer: &Value) -> LevelDistribution {
        parse(answer).rating(&levels()).unwrap()
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} is not {expected}");
    }

    /// Levels 5 and 4 with 0.6 and 0.2, `The` with 0.1; 0.1 is not reported.
    fn assert_rated(answer: &Value) {
        let rating = rate(answer);
        assert_eq!(rating.level(), 5);
        assert_near(rating.probabilities()[4], 0.75);
        assert_near(rating.probabilities()[3], 0.25);
        assert_near(rating.off_level().unwrap(), 0.1);
        assert_near(rating.served().unwrap().unreported.unwrap(), 0.1);
    }

    #[test]
    fn an_answer_of_vllm_is_read() {
        let top = json!([
            {"token": "5", "logprob": -0.510_825_623, "bytes": [53]},
            {"token": "4", "logprob": -1.609_437_912, "bytes": [52]},
            {"token": "The", "logprob": 0.1_f64.ln(), "bytes": [84, 104, 101]},
            {"token": "<|im_end|>", "logprob": -9999.0, "bytes": []},
        ]);
        let answer = json!({
            "id": "chatcmpl-7d1f", "object": "chat.completion", "created": 1_764_000_000,
            "model": "Qwen/Qwen2.5-VL-7B-Instruct", "system_fingerprint": null,
            "choices": [{
                "index": 0,
                "message": {"role": "assistant", "content": "5", "reasoning_content": null,
                    "tool_calls": []},
                "logprobs": {"content": [
                    {"token": "5", "logprob": -0.510_825_623, "bytes": [53], "top_logprobs": top}
                ]},
                "finish_reason": "length", "stop_reason": null
            }],
            "usage": {"prompt_tokens": 1_204, "total_tokens": 1_205, "completion_tokens": 1},
            "prompt_logprobs": null
        });
        assert_rated(&answer);
        let by = parse(&answer).served_by;
        assert_eq!(by.model.as_deref(), Some("Qwen/Qwen2.5-VL-7B-Instruct"));
        assert_eq!(by.system_fingerprint, None);
    }

    #[test]
    fn an_answer_of_sglang_is_read() {
        let top = json!([
            {"token": " 5", "bytes": [32, 53], "logprob": -0.510_825_623},
            {"token": " 4", "bytes": [32, 52], "logprob": -1.609_437_912},
            {"token": " The", "bytes": [32, 84, 104, 101], "logprob": 0.1_f64.ln()},
        ]);
        assert_rated(&json!({
            "id": "c1d2", "object": "chat.completion", "model": "default",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": " 5"},
                "logprobs": {"content": [{"token": " 5", "bytes": [32, 53],
                    "logprob": -0.510_825_623, "top_logprobs": top}]},
                "finish_reason": "length", "matched_stop": null}]
        }));
    }

    #[test]
    fn an_answer_of_tgi_has_no_bytes() {
        let answer = json!({
            "object": "chat.completion", "id": "", "model": "HuggingFaceM4/idefics2-8b",
            "system_fingerprint": "3.3.4-sha-1a2b3c4",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "5"},
                "logprobs": {"content": [{"token": "5", "logprob": -0.510_825_623, "top_logprobs": [
                    {"token": "5", "logprob": -0.510_825_623},
                    {"token": "4", "logprob": -1.609_437_912},
                    {"token": "The", "logprob": 0.1_f64.ln()}
                ]}]},
                "finish_reason": "length"}]
        });
        assert_rated(&answer);
        let fingerprint = parse(&answer).served_by.system_fingerprint;
        assert_eq!(fingerprint.as_deref(), Some("3.3.4-sha-1a2b3c4"));
    }

    #[test]
    fn an_answer_of_llama_cpp_has_ids_too() {
        assert_rated(&json!({
            "choices": [{"finish_reason": "length", "index": 0,
                "message": {"role": "assistant", "content": "5"},
                "logprobs": {"content": [{"id": 20, "token": "5", "bytes": [53],
                    "logprob": -0.510_825_623, "top_logprobs": [
                    {"id": 20, "token": "5", "bytes": [53], "logprob": -0.510_825_623},
                    {"id": 19, "token": "4", "bytes": [52], "logprob": -1.609_437_912},
                    {"id": 785, "token": "The", "bytes": [84, 104, 101], "logprob": 0.1_f64.ln()}
                ]}]}}],
            "created": 1_764_000_000, "model": "gpt-3.5-turbo",
            "system_fingerprint": "b6900-ab12cd34", "object": "chat.completion",
            "timings": {"predicted_n": 1}
        }));
    }

    /// As `llama-server` answers if it is made to choose `<|im_end|>`, which is not among the most
    /// probable tokens.
    #[test]
    fn a_special_token_of_llama_cpp_has_no_text() {
        let top = json!([
            {"id": 43_497, "token": "５", "bytes": [239, 188, 149], "logprob": 0.5_f64.ln()},
            {"id": 1_986, "token": "This", "bytes": [84, 104, 105, 115], "logprob": 0.25_f64.ln()},
        ]);
        let rating = rate(&json!({"choices": [{"finish_reason": "stop", "index": 0,
            "message": {"role": "assistant", "content": ""},
            "logprobs": {"content": [{"id": 151_645, "token": "", "bytes": [],
                "logprob": 0.125_f64.ln(), "top_logprobs": top}]}}]}));
        assert_eq!((rating.level(), rating.confidence()), (5, 1.0));
        assert_near(rating.off_level().unwrap(), 0.375);
        assert_near(rating.served().unwrap().unreported.unwrap(), 0.125);
    }

    /// As `llama-server` answers if the first token ends inside a character.
    #[test]
    fn a_part_of_a_character_is_no_level() {
        let half = json!({"choices": [{"finish_reason": "length", "index": 0,
            "message": {"role": "assistant", "content": "\u{fffd}"}, "logprobs": null}]});
        let error = parse(&half).rating(&levels()).unwrap_err();
        assert!(error.to_string().contains("`\u{fffd}`"), "{error}");
    }

    #[test]
    fn an_answer_of_mistral_rs_numbers_its_tokens() {
        assert_rated(&json!({
            "choices": [{"finish_reason": "length", "index": 0,
                "message": {"content": "5", "role": "assistant"},
                "logprobs": {"content": [{"token": "5", "logprob": -0.510_825_623,
                    "bytes": [53], "top_logprobs": [
                    {"token": 20, "logprob": -0.510_825_623, "bytes": "5"},
                    {"token": 19, "logprob": -1.609_437_912, "bytes": "4"},
                    {"token": 785, "logprob": 0.1_f64.ln(), "bytes": "The"}
                ]}]}}],
            "model": "qwen", "system_fingerprint": "local"
        }));
    }

    #[test]
    fn the_former_form_of_probabilities_is_read() {
        assert_rated(&json!({"choices": [{"message": {"content": "5"}, "logprobs": {
            "tokens": ["5"], "token_logprobs": [-0.510_825_623], "text_offset": [0],
            "top_logprobs": [{"5": -0.510_825_623, "4": -1.609_437_912, "The": 0.1_f64.ln()}]
        }}]}));
    }

    fn answer(tokens: &[(&str, f64)]) -> Value {
        let top: Vec<_> = tokens
            .iter()
            .map(|(token, share)| json!({"token": token, "logprob": share.ln()}))
            .collect();
        let first = json!({"token": tokens[0].0, "logprob": tokens[0].1.ln(), "top_logprobs": top});
        json!({"choices": [{"message": {"content": tokens[0].0}, "logprobs": {"content": [first]}}]})
    }

    #[test]
    fn the_tokens_of_one_level_add_up_and_the_rest_is_off_level() {
        let rating = rate(&answer(&[("5", 0.3), (" 5", 0.1), ("Good", 0.1), ("I", 0.25)]));
        assert_eq!((rating.level(), rating.probabilities()[4]), (5, 1.0));
        assert_near(rating.off_level().unwrap(), 0.25);
        assert_near(rating.served().unwrap().unreported.unwrap(), 0.25);
    }

    #[test]
    fn a_chosen_token_that_is_not_listed_counts_once() {
        let mut unlisted = answer(&[("5", 0.5), ("4", 0.25)]);
        let first = &mut unlisted["choices"][0]["logprobs"]["content"][0];
        first["token"] = json!("3");
        first["logprob"] = json!(0.25_f64.ln());
        let rating = rate(&unlisted);
        assert_near(rating.probabilities()[2], 0.25);
        assert_near(rating.served().unwrap().unreported.unwrap(), 0.0);
    }

    #[test]
    fn without_probabilities_the_rating_is_the_level_of_the_answer() {
        for logprobs in [Value::Null, json!({"content": null}), json!({"content": []}), json!({})] {
            let rating = rate(&json!({
                "choices": [{"message": {"content": " 6."}, "logprobs": logprobs}]
            }));
            assert_eq!((rating.level(), rating.confidence()), (6, 1.0));
            assert_eq!((rating.off_level(), rating.served().unwrap().unreported), (None, None));
        }
    }

    #[test]
    fn an_answer_without_a_level_is_an_error_that_repeats_its_beginning() {
        let long = format!("see https://h/a?key=s3cret {}", "x".repeat(200));
        let text = |text: &str| json!({"choices": [{"message": {"content": text}}]});
        for (answer, part) in [
            (answer(&[("The", 0.9), ("I", 0.05)]), "`The`"),
            (answer(&[("<think>", 0.9)]), "`<think>`"),
            (text("I cannot see\u{1b}[31m an image"), "`I cannot see[31m an image`"),
            (text(""), "it is empty: the model ends it"),
            (answer(&[("", 0.9)]), "it is empty"),
            (
                json!({"choices": [{"message": {"content": "", "reasoning_content": "Okay"}}]}),
                "thinks first: `Okay` (see engine",
            ),
            (
                json!({"choices": [{"message": {"content": null, "reasoning": "Hm"}}]}),
                "thinks first: `Hm`",
            ),
            (text(&long), "`see https://h/a…"),
        ] {
            let error = parse(&answer).rating(&levels()).unwrap_err();
            let shown = error.to_string();
            assert!(matches!(error, NoRating::NoLevel(_)) && shown.contains(part), "{shown}");
            assert!(shown.len() < 130 && !shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn probabilities_that_are_none_are_refused() {
        let twice = answer(&[("5", 0.9), ("4", 0.9)]);
        let error = parse(&twice).rating(&levels()).unwrap_err();
        assert!(matches!(error, NoRating::Probabilities(_)), "{error}");
        for logprob in [json!(7.5), json!("-1"), json!({})] {
            let mut odd = answer(&[("5", 0.9)]);
            odd["choices"][0]["logprobs"]["content"][0]["top_logprobs"][0]["logprob"] = logprob;
            Completion::parse(odd.to_string().as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn a_body_that_is_no_completion_is_refused() {
        for body in ["", "<html>", "[]", "{}", r#"{"choices":[]}"#, r#"{"choices":[{}]}"#] {
            Completion::parse(body.as_bytes()).unwrap_err();
        }
    }
}
