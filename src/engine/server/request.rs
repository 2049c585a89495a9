//! The body of a request: the standard's prompt and a crop as a PNG in a data URL.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use image::ExtendedColorType;
use image::ImageEncoder;
use image::RgbImage;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use serde_json::{Map, Value, json};

use crate::engine::server::settings::HttpSettings;
use crate::imaging::{Filter, resize, shrink_pixels};
use crate::method::Standard;

/// Smallest side in pixels: the vision towers of some models refuse less than one of their patches.
const SIDE_MIN: u32 = 32;
/// Side in pixels of the picture that tests a server.
const TEST_SIDE: u32 = 64;

/// Makes the bodies of requests.
#[derive(Debug, Clone)]
pub(crate) struct RequestForm {
    settings: HttpSettings,
    system: String,
    user: String,
}

impl RequestForm {
    pub(crate) fn new(settings: HttpSettings, standard: &Standard) -> Self {
        let (system, user) = (standard.system_message(), standard.user_message());
        Self { settings, system: system.to_owned(), user: user.to_owned() }
    }

    /// Returns the request for a crop. Blocks for the time of a resize and of a compression.
    ///
    /// # Errors
    /// Returns the reason if the image cannot be encoded.
    pub(crate) fn for_pixels(&self, pixels: &RgbImage) -> Result<Bytes, String> {
        let shrunk = shrink_pixels(pixels, self.settings.side_max);
        let pixels = shrunk.as_ref().unwrap_or(pixels);
        let enlarged = enlarge(pixels, self.settings.side_max);
        let image = png(enlarged.as_ref().unwrap_or(pixels))?;
        let url = format!("data:image/png;base64,{}", BASE64_STANDARD.encode(image));
        let mut body: Map<String, Value> = self.settings.body.clone().into_iter().collect();
        let Value::Object(own) = json!({
            "model": self.settings.model,
            "messages": [
                {"role": "system", "content": self.system},
                {"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": url}},
                    {"type": "text", "text": self.user},
                ]},
            ],
            "max_tokens": 1,
            "temperature": 0,
        }) else {
            return Err("a request is an object".to_owned());
        };
        body.extend(own);
        if self.settings.top_logprobs > 0 {
            body.insert("logprobs".to_owned(), true.into());
            body.insert("top_logprobs".to_owned(), self.settings.top_logprobs.into());
        }
        Ok(serde_json::to_vec(&body).map_err(|error| error.to_string())?.into())
    }

    /// Returns the request for a small picture that every model can rate.
    ///
    /// # Errors
    /// As [`RequestForm::for_pixels`].
    pub(crate) fn for_test_picture(&self) -> Result<Bytes, String> {
        let shade = |x: u32, y: u32| {
            image::Rgb([x * 3, y * 3, (x + y) * 2].map(|value| value.to_le_bytes()[0]))
        };
        self.for_pixels(&RgbImage::from_fn(TEST_SIDE, TEST_SIDE, shade))
    }
}

/// Enlarges an image until no side is below [`SIDE_MIN`], in proportion as far as `side_max`
/// allows. Returns `None` if none is.
fn enlarge(pixels: &RgbImage, side_max: u32) -> Option<RgbImage> {
    let (width, height) = pixels.dimensions();
    let smallest = width.min(height);
    if smallest >= SIDE_MIN {
        return None;
    }
    let scaled = |side: u32| {
        let proportional = u64::from(side) * u64::from(SIDE_MIN) / u64::from(smallest.max(1));
        u32::try_from(proportional).unwrap_or(u32::MAX).clamp(SIDE_MIN, side_max.max(side))
    };
    Some(resize(pixels, scaled(width), scaled(height), Filter::Bicubic))
}

fn png(pixels: &RgbImage) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let encoder =
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Fast, FilterType::Adaptive);
    let (width, height) = pixels.dimensions();
    encoder
        .write_image(pixels, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| format!("the crop cannot be encoded: {error}"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::StandardForm;

    fn request(settings: HttpSettings, pixels: &RgbImage) -> Value {
        let standard = Standard::builtin(7, StandardForm::Word).unwrap();
        let body = RequestForm::new(settings, &standard).for_pixels(pixels).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    fn sent(request: &Value) -> RgbImage {
        let url = request.pointer("/messages/1/content/0/image_url/url").unwrap();
        let data = url.as_str().unwrap().strip_prefix("data:image/png;base64,").unwrap();
        let bytes = BASE64_STANDARD.decode(data).unwrap();
        let picture = crate::imaging::decode(&bytes, &crate::imaging::Settings::default());
        (**picture.unwrap().pixels()).clone()
    }

    #[test]
    fn a_request_has_the_standards_prompt_and_the_pixels_without_loss() {
        let shade = |x: u32, y: u32| image::Rgb([x, y, x + y].map(|value| value.to_le_bytes()[0]));
        let pixels = RgbImage::from_fn(50, 40, shade);
        let body = [("seed".to_owned(), 7.into())].into();
        let settings = HttpSettings { model: "m".to_owned(), body, ..HttpSettings::default() };
        let request = request(settings, &pixels);
        assert_eq!(sent(&request), pixels);
        assert_eq!(request["max_tokens"], 1);
        assert_eq!(request["logprobs"], true);
        assert_eq!((&request["top_logprobs"], &request["seed"]), (&json!(20), &json!(7)));
        assert_eq!(request["model"], "m");
        let text = |pointer: &str| request.pointer(pointer).unwrap().as_str().unwrap();
        assert!(text("/messages/0/content").contains("7: Perfect, 6: Excellent"));
        assert!(text("/messages/1/content/1/text").ends_with("score in [1, 2, 3, 4, 5, 6, 7]."));
    }

    #[test]
    fn without_logprobs_none_are_asked_for() {
        let settings = HttpSettings { top_logprobs: 0, ..HttpSettings::default() };
        let request = request(settings, &RgbImage::new(32, 32));
        assert!(request.get("logprobs").is_none() && request.get("top_logprobs").is_none());
    }

    #[test]
    fn large_crops_are_shrunk_and_small_ones_enlarged() {
        for (size, expected) in [
            ((2000, 1000), (1024, 512)),
            ((1024, 32), (1024, 32)),
            ((1, 1), (32, 32)),
            ((8, 40), (32, 160)),
            ((4, 1000), (32, 1024)),
            ((3000, 3), (1024, 32)),
        ] {
            let image = sent(&request(HttpSettings::default(), &RgbImage::new(size.0, size.1)));
            assert_eq!(image.dimensions(), expected, "{size:?}");
        }
    }
}
