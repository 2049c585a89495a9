//! [`super::windowed_attention`] for `f32` on the CPU: windows are cut, padded, biased and pooled while
//! they are gathered, so that no copy of the map is made; scores never leave the cache.

use candle_core::{Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use super::attend::{Attend, QUERY_BLOCK};
use super::attention::Windows;
use super::cpu::Values;
use super::panels::{Panels, padded};

pub(super) fn windowed_attention(qkv: &Tensor, bias: &Tensor, windows: &Windows) -> Result<Tensor> {
    let (batch, height, width, channels) = qkv.dims4()?;
    let (tall, wide) = windows.side.map_or((height, width), |side| (side, side));
    let (values, bias) = (Values::of(qkv)?, Values::of(bias)?);
    let map = Map {
        values: &values,
        bias: &bias,
        height,
        width,
        channels: channels / 3,
        heads: windows.heads,
        window: (tall, wide),
        pool: if windows.pools_queries { 2 } else { 1 },
    };
    let (out_height, out_width) = (height / map.pool, width / map.pool);
    let mut result = vec![0.0; batch * out_height * out_width * map.channels];
    // A strip is a row of windows.
    let strip = tall / map.pool * out_width * map.channels;
    let picture = out_height * out_width * map.channels;
    let strips = result.chunks_mut(picture).enumerate().flat_map(|(index, picture)| {
        picture.chunks_mut(strip).enumerate().map(move |(row, strip)| (index, row, strip))
    });
    let strips: Vec<_> = strips.collect();
    strips.into_par_iter().for_each(|(picture, row, strip)| map.answer_strip(picture, row, strip));
    Tensor::from_vec(result, (batch, out_height, out_width, map.channels), qkv.device())
}

/// The product `[q | k | v]` of a map of tokens, and how it is cut.
struct Map<'a> {
    values: &'a [f32],
    bias: &'a [f32],
    height: usize,
    width: usize,
    channels: usize,
    heads: usize,
    /// Height and width of a window in tokens.
    window: (usize, usize),
    /// Tokens that a query is pooled of, along each side.
    pool: usize,
}

/// One window of one picture, by the token in its corner.
#[derive(Clone, Copy)]
struct Corner {
    picture: usize,
    row: usize,
    column: usize,
}

impl Map<'_> {
    /// Answers all windows of a row of windows.
    fn answer_strip(&self, picture: usize, strip_row: usize, strip: &mut [f32]) {
        if self.window == (self.height, self.width) {
            return self.answer_whole(picture, strip);
        }
        let (tall, wide) = self.window;
        let corners: Vec<Corner> = (0..self.width.div_ceil(wide))
            .map(|index| Corner { picture, row: strip_row * tall, column: index * wide })
            .collect();
        let answer = |&corner: &Corner| {
            let mut window = vec![0.0; tall / self.pool * (wide / self.pool) * self.channels];
            for head in 0..self.heads {
                let (keys, values) = self.keys_and_values(corner, head);
                self.attend(corner, head, (&keys, &values), (0, &mut window));
            }
            window
        };
        let windows: Vec<Vec<f32>> = corners.par_iter().map(answer).collect();
        let row_len = self.width / self.pool * self.channels;
        let window_row_len = wide / self.pool * self.channels;
        for (row, strip) in strip.chunks_exact_mut(row_len).enumerate() {
            for (part, window) in strip.chunks_mut(window_row_len).zip(&windows) {
                part.copy_from_slice(&window[row * window_row_len..][..part.len()]);
            }
        }
    }

    /// Answers the one window that is the whole map, in blocks of queries.
    fn answer_whole(&self, picture: usize, answers: &mut [f32]) {
        let corner = Corner { picture, row: 0, column: 0 };
        let heads: Vec<(Panels, Panels)> = (0..self.heads)
            .into_par_iter()
            .map(|head| self.keys_and_values(corner, head))
            .collect();
        let blocks = answers.par_chunks_mut(QUERY_BLOCK * self.channels);
        blocks.enumerate().for_each(|(index, block)| {
            for (head, (keys, values)) in heads.iter().enumerate() {
                self.attend(corner, head, (keys, values), (index * QUERY_BLOCK, block));
            }
        });
    }

    /// The keys as columns and the values as rows.
    fn keys_and_values(&self, corner: Corner, head: usize) -> (Panels, Panels) {
        let head_dim = self.channels / self.heads;
        let tokens = self.window.0 * self.window.1;
        let mut keys = Panels::zeros(head_dim, tokens);
        let mut values = Panels::zeros(tokens, head_dim);
        let mut gathered = vec![0.0; head_dim];
        for token in 0..tokens {
            self.gather(corner, token, self.channels + head * head_dim, &mut gathered);
            keys.set_column(token, &gathered);
            self.gather(corner, token, 2 * self.channels + head * head_dim, &mut gathered);
            values.set_row(token, &gathered);
        }
        (keys, values)
    }

    /// Answers queries of one head from the one numbered `first` on; `answers` has a row of all
    /// channels for each.
    fn attend(
        &self,
        corner: Corner,
        head: usize,
        (keys, values): (&Panels, &Panels),
        (first, answers): (usize, &mut [f32]),
    ) {
        let head_dim = self.channels / self.heads;
        let tokens = self.window.0 * self.window.1;
        let scale = (head_dim as f32).powf(-0.5);
        let mut queries = vec![0.0; QUERY_BLOCK * head_dim];
        let mut scores = vec![0.0; QUERY_BLOCK * padded(tokens)];
        let mut found = vec![0.0; QUERY_BLOCK * padded(head_dim)];
        for (block, answers) in answers.chunks_mut(QUERY_BLOCK * self.channels).enumerate() {
            let count = answers.len() / self.channels;
            let queries = &mut queries[..count * head_dim];
            for (index, query) in queries.chunks_exact_mut(head_dim).enumerate() {
                self.gather_query(corner, first + block * QUERY_BLOCK + index, head, query);
                for value in query {
                    *value *= scale;
                }
            }
            let found = &mut found[..count * padded(head_dim)];
            Arch::new().dispatch(Attend {
                queries,
                keys,
                values,
                hide: |_, scores: &mut [f32]| scores[tokens..].fill(f32::NEG_INFINITY),
                scores: &mut scores[..count * padded(tokens)],
                found,
            });
            let rows = found.chunks_exact(padded(head_dim));
            for (answer, found) in answers.chunks_exact_mut(self.channels).zip(rows) {
                answer[head * head_dim..][..head_dim].copy_from_slice(&found[..head_dim]);
            }
        }
    }

    /// One query, pooled of its tokens.
    fn gather_query(&self, corner: Corner, index: usize, head: usize, query: &mut [f32]) {
        let channel = head * query.len();
        let wide = self.window.1 / self.pool;
        let (row, column) = (index / wide * self.pool, index % wide * self.pool);
        self.gather(corner, row * self.window.1 + column, channel, query);
        let mut other = vec![0.0; query.len()];
        for step in 1..self.pool * self.pool {
            let (row, column) = (row + step / self.pool, column + step % self.pool);
            self.gather(corner, row * self.window.1 + column, channel, &mut other);
            for (value, other) in query.iter_mut().zip(&other) {
                *value = value.max(*other);
            }
        }
    }

    /// Values of one token from a channel on, with the bias; of padding, the bias alone.
    #[inline]
    fn gather(&self, corner: Corner, token: usize, channel: usize, gathered: &mut [f32]) {
        let bias = &self.bias[channel..][..gathered.len()];
        let row = corner.row + token / self.window.1;
        let column = corner.column + token % self.window.1;
        if row >= self.height || column >= self.width {
            return gathered.copy_from_slice(bias);
        }
        let token = (corner.picture * self.height + row) * self.width + column;
        let values = &self.values[token * 3 * self.channels + channel..][..gathered.len()];
        for ((to, value), bias) in gathered.iter_mut().zip(values).zip(bias) {
            *to = value + bias;
        }
    }
}
