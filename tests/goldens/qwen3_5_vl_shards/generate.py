"""Writes a small Qwen3.5-VL golden folder with the reference classes of transformers."""
import json, math, os, random, sys
import numpy as np, torch
from safetensors.torch import save_file
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration
torch.set_num_threads(1)
out, seed, vw, vh, hidden, layers, shards, dtype, tied = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), int(sys.argv[6]), int(sys.argv[7]), sys.argv[8], sys.argv[9]=='tied'
sizes=[tuple(map(int,s.split('x'))) for s in sys.argv[10].split(',')]
text=dict(vocab_size=320,hidden_size=hidden,intermediate_size=2*hidden,num_hidden_layers=layers,num_attention_heads=2,num_key_value_heads=1,head_dim=64,
 linear_num_key_heads=2,linear_num_value_heads=6,linear_key_head_dim=16,linear_value_head_dim=16,linear_conv_kernel_dim=4,
 full_attention_interval=4,hidden_act='silu',max_position_embeddings=4096,rms_norm_eps=1e-6,tie_word_embeddings=tied,
 rope_parameters=dict(rope_theta=10000000,partial_rotary_factor=0.25,mrope_section=[3,3,2],mrope_interleaved=True,rope_type='default'),mamba_ssm_dtype='float32')
vis=dict(depth=2,hidden_size=vw,intermediate_size=vw,num_heads=vh,out_hidden_size=hidden,num_position_embeddings=36,patch_size=16,temporal_patch_size=2,spatial_merge_size=2,in_channels=3,hidden_act='gelu_pytorch_tanh',deepstack_visual_indexes=[])
cfg=Qwen3_5Config(text_config=text,vision_config=vis,image_token_id=314,video_token_id=315,vision_start_token_id=312,vision_end_token_id=313,tie_word_embeddings=tied)
cfg._attn_implementation='eager'
torch.manual_seed(seed); rng=random.Random(seed)
m=Qwen3_5ForConditionalGeneration(cfg).eval()
with torch.no_grad():
    for n,p in m.named_parameters():
        if p.ndim>=2: p.copy_(torch.randn_like(p)*(1.6/math.sqrt(p[0].numel())))
        elif 'A_log' in n: p.copy_(torch.rand_like(p)*2-1)
        elif 'dt_bias' in n: p.copy_(torch.randn_like(p))
        elif n.endswith('weight'): p.copy_(p+0.2*torch.randn_like(p))
        else: p.copy_(0.2*torch.randn_like(p))
    m.model.language_model.embed_tokens.weight.copy_(torch.randn_like(m.model.language_model.embed_tokens.weight))
    if not tied: m.lm_head.weight.copy_(torch.randn_like(m.lm_head.weight)*0.3)
    if dtype=='bf16': [p.data.copy_(p.data.to(torch.bfloat16).float()) for p in m.parameters()]
os.makedirs(out,exist_ok=True)
c=json.loads(cfg.to_json_string()); c['architectures']=['Qwen3_5ForConditionalGeneration']; c['model_type']='qwen3_5'; c['vision_config']['model_type']='qwen3_5'
json.dump(c,open(f'{out}/config.json','w'),indent=1)
sd={k:v.contiguous().clone() for k,v in m.state_dict().items() if not (tied and k=='lm_head.weight')}
if dtype=='bf16': sd={k:v.to(torch.bfloat16) for k,v in sd.items()}
if shards==1: save_file(sd,f'{out}/model.safetensors',metadata={'format':'pt'})
else:
    keys=sorted(sd); rng.shuffle(keys); wm={}
    for i in range(shards):
        f=f'model.safetensors-{i+1:05d}-of-{shards:05d}.safetensors'
        part={k:sd[k] for k in keys[i::shards]}; save_file(part,f'{out}/{f}',metadata={'format':'pt'}); wm.update({k:f for k in part})
    json.dump({'metadata':{'total_size':sum(v.numel()*v.element_size() for v in sd.values())},'weight_map':dict(sorted(wm.items()))},open(f'{out}/model.safetensors.index.json','w'),indent=1)
io={}
imgs=[torch.from_numpy(np.clip(np.random.RandomState(seed+i).randn(3,h,w)*40+ 128 + 60*np.sin(np.arange(w)/9.0)[None,None,:],0,255).astype(np.uint8)) for i,(w,h) in enumerate(sizes)]
def patches(u8,dt):
    a=(u8.to(dt)-127.5)/127.5; _,H,W=a.shape; gh,gw=H//16,W//16
    t=torch.stack([a,a],1).reshape(3,2,gh//2,2,16,gw//2,2,16).permute(2,5,3,6,0,1,4,7).reshape(gh*gw,1536)
    return t.contiguous(),torch.tensor([[1,gh,gw]])
for i,u in enumerate(imgs):
    io[f'image.{i}.u8']=u; io[f'image.{i}.grid_thw']=patches(u,torch.float32)[1][0]
lv=[3,7,11,19,23]; io['level_ids']=torch.tensor(lv); io['level_weights']=torch.tensor([1,.75,.5,.25,0.])
def ids_of(image):
    n=0 if image is None else imgs[image].shape[1]*imgs[image].shape[2]//1024
    w=lambda k:[rng.randrange(30,300) for _ in range(k)]
    return [310,17,28,312]+([314]*n)+[313]+w(7)+[311,28,310,18,28,316,29,317,29]+w(int(os.environ.get('TAIL','5')))
cases={'one':(ids_of(0),[0])}
for i in range(1,len(imgs)): cases[['wide','tall','third'][i-1]]=(ids_of(i),[i])
cases['text']=([rng.randrange(30,300) for _ in range(70)],[])
def run(m,dt):
    r={}
    hooks=[]
    for n,(ids,im) in cases.items():
        kw={}
        if im:
            ps=[patches(imgs[i],dt) for i in im]
            kw=dict(pixel_values=torch.cat([p for p,_ in ps]),image_grid_thw=torch.cat([g for _,g in ps]))
        t=torch.tensor([ids]); kw['mm_token_type_ids']=(t==314).long()
        with torch.no_grad(): o=m(input_ids=t,attention_mask=torch.ones_like(t),output_hidden_states=True,**kw)
        for l,h in enumerate(o.hidden_states[1:-1]): r[f'{n}.layer.{l}.out']=h
        r[f'{n}.final_norm']=o.hidden_states[-1]; r[f'{n}.embeds']=o.hidden_states[0]; r[f'{n}.logits']=o.logits
        ll=o.logits[:,-1][:,lv]; p=torch.softmax(ll.double(),-1); s=(p*torch.tensor([1,.75,.5,.25,0.],dtype=torch.float64)).sum(-1)
        r[f'{n}.level_logits']=ll; r[f'{n}.level_probs']=p.to(dt); r[f'{n}.score']=s.to(dt)
    ps=[patches(u,dt) for u in imgs]
    v=m.model.visual; outs=[]
    hs=[b.register_forward_hook(lambda mod,i,o: outs.append(o if torch.is_tensor(o) else o[0])) for b in v.blocks]
    with torch.no_grad(): o=v(torch.cat([p for p,_ in ps]),grid_thw=torch.cat([g for _,g in ps]))
    for i,x in enumerate(outs): r[f'vision.block.{i}.out']=x
    for h in hs: h.remove()
    mo=[]
    h=v.merger.register_forward_hook(lambda mod,i,o: mo.append(o))
    with torch.no_grad(): v(torch.cat([p for p,_ in ps]),grid_thw=torch.cat([g for _,g in ps]))
    h.remove(); r['vision.merger.out']=mo[0]
    return r
a=run(m,torch.float32); b=run(m.double(),torch.float64)
tol={}
for k in a:
    mx=float(b[k].abs().max()); e=float((a[k].double()-b[k].double()).abs().max())/mx
    tol[k]={'max_abs':mx,'own_rel':e,'tol_rel':max(2e-5,4*e)}
json.dump({'tensors':tol},open(f'{out}/tolerance.json','w'),indent=1)
for n,(ids,im) in cases.items():
    io[f'{n}.input_ids']=torch.tensor([ids])
    if im: io[f'{n}.image_index']=torch.tensor(im)
io.update({k:v.float().contiguous() for k,v in a.items()})
save_file({k:v.clone() for k,v in io.items()},f'{out}/io.safetensors')
print(out,{k:float(v.float().flatten()[0]) for k,v in a.items() if k.endswith('.score')},max((v['own_rel'],k) for k,v in tol.items()))
