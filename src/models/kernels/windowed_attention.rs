//! Self-attention on a map of tokens, in windows or over the whole map.
//!
//! Windows are cropped, padded, biased and pooled while their tokens are gathered, so the map is
//! never copied. Scores never leave the CPU cache.

use candle_core::{Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use crate::models::kernels::attention_block::{AttentionBlock, HeadPanels, QUERY_BLOCK};
use crate::models::kernels::panels::{Panels, padded};
use crate::models::kernels::values::Values;

/// The heads and windows of an attention on a map of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Attention heads; a divisor of the channels.
    pub heads: usize,
    /// Side of the square windows in tokens. If `None`, every token attends to the whole map.
    pub side: Option<usize>,
    /// True if queries are pooled 2 × 2 by maximum, which halves both sides of the map.
    pub pools_queries: bool,
}

/// `softmax(q kᵀ / √head_dim) v` for each window and head; see `layers::windowed_attention`.
pub(crate) fn windowed_attention(qkv: &Tensor, bias: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, height, width, channels) = qkv.dims4()?;
    let (values, bias) = (Values::of(qkv)?, Values::of(bias)?);
    let map = TokenMap {
        values: &values,
        bias: &bias,
        height,
        width,
        channels: channels / 3,
        heads: windows.heads,
        window_height: windows.side.unwrap_or(height),
        window_width: windows.side.unwrap_or(width),
        pool: if windows.pools_queries { 2 } else { 1 },
    };
    let (out_height, out_width) = (height / map.pool, width / map.pool);
    let mut result = vec![0.0; batch * out_height * out_width * map.channels];
    // A strip is a row of windows.
    let strip_len = map.window_height / map.pool * out_width * map.channels;
    let picture_len = out_height * out_width * map.channels;
    let strips = result.chunks_mut(picture_len).enumerate().flat_map(|(index, picture)| {
        picture.chunks_mut(strip_len).enumerate().map(move |(row, strip)| (index, row, strip))
    });
    let strips: Vec<_> = strips.collect();
    strips.into_par_iter().for_each(|(picture, row, strip)| map.attend_strip(picture, row, strip));
    Tensor::from_vec(result, (batch, out_height, out_width, map.channels), qkv.device())
}

/// The product `[q | k | v]` of a map of tokens, without its bias, and how it is split.
struct TokenMap<'a> {
    values: &'a [f32],
    bias: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
    heads: usize,
    /// Height of a window in tokens.
    window_height: usize,
    /// Width of a window in tokens.
    window_width: usize,
    /// Tokens that are pooled to one query, along each side.
    pool: usize,
}

/// One window of one picture, by the token in its upper left corner.
#[derive(Clone, Copy)]
struct Window {
    picture: usize,
    row: usize,
    column: usize,
}

impl TokenMap<'_> {
    /// Attends in all windows of a row of windows.
    fn attend_strip(&self, picture: usize, strip_row: usize, strip: &mut [f32]) {
        if (self.window_height, self.window_width) == (self.height, self.width) {
            return self.attend_whole(picture, strip);
        }
        let windows: Vec<Window> = (0..self.width.div_ceil(self.window_width))
            .map(|index| Window {
                picture,
                row: strip_row * self.window_height,
                column: index * self.window_width,
            })
            .collect();
        let window_row_len = self.window_width / self.pool * self.channels;
        let results: Vec<Vec<f32>> = windows
            .par_iter()
            .map(|&window| {
                let mut result = vec![0.0; self.window_height / self.pool * window_row_len];
                for head in 0..self.heads {
                    self.attend(window, &self.pack_head(window, head), 0, &mut result);
                }
                result
            })
            .collect();
        // Padding at the right and the bottom is dropped.
        let row_len = self.width / self.pool * self.channels;
        for (row, strip) in strip.chunks_exact_mut(row_len).enumerate() {
            for (part, result) in strip.chunks_mut(window_row_len).zip(&results) {
                part.copy_from_slice(&result[row * window_row_len..][..part.len()]);
            }
        }
    }

    /// Attends in the one window that is the whole map, in blocks of queries.
    fn attend_whole(&self, picture: usize, result: &mut [f32]) {
        let window = Window { picture, row: 0, column: 0 };
        let heads: Vec<HeadPanels> =
            (0..self.heads).into_par_iter().map(|head| self.pack_head(window, head)).collect();
        let blocks = result.par_chunks_mut(QUERY_BLOCK * self.channels);
        blocks.enumerate().for_each(|(index, block)| {
            for kv in &heads {
                self.attend(window, kv, index * QUERY_BLOCK, block);
            }
        });
    }

    fn pack_head(&self, window: Window, head: usize) -> HeadPanels {
        let head_dim = self.channels / self.heads;
        let tokens = self.window_height * self.window_width;
        let mut keys = Panels::zeros(head_dim, tokens);
        let mut values = Panels::zeros(tokens, head_dim);
        let mut gathered = vec![0.0; head_dim];
        for token in 0..tokens {
            self.gather(window, token, self.channels + head * head_dim, &mut gathered);
            keys.set_column(token, &gathered);
            self.gather(window, token, 2 * self.channels + head * head_dim, &mut gathered);
            values.set_row(token, &gathered);
        }
        HeadPanels { head, keys, values }
    }

    /// Attends with the queries of one head, starting at query `first`. `results` has a row of all
    /// channels for each.
    fn attend(&self, window: Window, kv: &HeadPanels, first: usize, results: &mut [f32]) {
        let head_dim = self.channels / self.heads;
        let tokens = self.window_height * self.window_width;
        let scale = (head_dim as f32).powf(-0.5);
        let mut queries = vec![0.0; QUERY_BLOCK * head_dim];
        let mut scores = vec![0.0; QUERY_BLOCK * padded(tokens)];
        let mut found = vec![0.0; QUERY_BLOCK * padded(head_dim)];
        for (block, results) in results.chunks_mut(QUERY_BLOCK * self.channels).enumerate() {
            let count = results.len() / self.channels;
            let queries = &mut queries[..count * head_dim];
            for (index, query) in queries.chunks_exact_mut(head_dim).enumerate() {
                self.gather_query(window, first + block * QUERY_BLOCK + index, kv.head, query);
                for value in query {
                    *value *= scale;
                }
            }
            let found = &mut found[..count * padded(head_dim)];
            Arch::new().dispatch(AttentionBlock {
                queries,
                kv,
                mask: |_, scores: &mut [f32]| scores[tokens..].fill(f32::NEG_INFINITY),
                scores: &mut scores[..count * padded(tokens)],
                result: found,
            });
            let rows = found.chunks_exact(padded(head_dim));
            for (result, found) in results.chunks_exact_mut(self.channels).zip(rows) {
                result[kv.head * head_dim..][..head_dim].copy_from_slice(&found[..head_dim]);
            }
        }
    }

    /// Gathers one query, the maximum of the tokens that are pooled to it.
    fn gather_query(&self, window: Window, index: usize, head: usize, query: &mut [f32]) {
        let channel = head * query.len();
        let wide = self.window_width / self.pool;
        let (row, column) = (index / wide * self.pool, index % wide * self.pool);
        self.gather(window, row * self.window_width + column, channel, query);
        let mut other = vec![0.0; query.len()];
        for step in 1..self.pool * self.pool {
            let (row, column) = (row + step / self.pool, column + step % self.pool);
            self.gather(window, row * self.window_width + column, channel, &mut other);
            for (value, other) in query.iter_mut().zip(&other) {
                *value = value.max(*other);
            }
        }
    }

    /// Gathers values of one token, starting at a channel, with their bias. Padding has the bias
    /// alone.
    #[inline]
    fn gather(&self, window: Window, token: usize, channel: usize, gathered: &mut [f32]) {
        let bias = &self.bias[channel..][..gathered.len()];
        let row = window.row + token / self.window_width;
        let column = window.column + token % self.window_width;
        if row >= self.height || column >= self.width {
            return gathered.copy_from_slice(bias);
        }
        let token = (window.picture * self.height + row) * self.width + column;
        let values = &self.values[token * 3 * self.channels + channel..][..gathered.len()];
        for ((to, value), bias) in gathered.iter_mut().zip(values).zip(bias) {
            *to = value + bias;
        }
    }
}
