"""Tiny random configurations of decoder families: four layers, width 32, and windows or chunks shorter than the input.

Each entry is called when it is wanted, since an older transformers does not have them all.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import transformers as T
from transformers import PretrainedConfig, PreTrainedModel

V, H, L, NH, KV, FF = 60, 32, 4, 4, 2, 48
B = dict(
    vocab_size=V,
    hidden_size=H,
    num_hidden_layers=L,
    num_attention_heads=NH,
    intermediate_size=FF,
    max_position_embeddings=64,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
)
G = dict(B, num_key_value_heads=KV)
D = dict(G, head_dim=8)
MOE = dict(num_experts=4, num_experts_per_tok=2)
MLA = dict(
    B, num_key_value_heads=NH, q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=6
)
S, F = "sliding_attention", "full_attention"
ALT = [S, F, S, F]

_REGULAR: dict[str, Callable[[], PretrainedConfig]] = {
    "llama": lambda: T.LlamaConfig(**G),
    "mistral": lambda: T.MistralConfig(**D, sliding_window=5),
    "mistral_full": lambda: T.MistralConfig(**D, sliding_window=None),
    "ministral": lambda: T.MinistralConfig(**D, sliding_window=5, layer_types=ALT),
    "qwen2": lambda: T.Qwen2Config(**G),
    "qwen2_swa": lambda: T.Qwen2Config(**G, use_sliding_window=True, sliding_window=5, max_window_layers=2),
    "qwen3": lambda: T.Qwen3Config(**D),
    "gemma": lambda: T.GemmaConfig(**D),
    "gemma2": lambda: T.Gemma2Config(
        **D, sliding_window=5, query_pre_attn_scalar=8, attn_logit_softcapping=2.0, final_logit_softcapping=30.0
    ),
    "gemma3_text": lambda: T.Gemma3TextConfig(**D, sliding_window=5, query_pre_attn_scalar=8, layer_types=ALT),
    "gemma3n_text": lambda: T.Gemma3nTextConfig(
        **dict(D, intermediate_size=[FF] * L),
        sliding_window=5,
        layer_types=ALT,
        vocab_size_per_layer_input=V,
        hidden_size_per_layer_input=8,
        altup_num_inputs=2,
        laurel_rank=4,
        num_kv_shared_layers=2,
        activation_sparsity_pattern=[0.0] * L,
    ),
    "gemma4_text": lambda: T.Gemma4TextConfig(
        **D,
        sliding_window=5,
        global_head_dim=16,
        layer_types=[S, F, S, F],
        vocab_size_per_layer_input=V,
        hidden_size_per_layer_input=8,
    ),
    "vaultgemma": lambda: T.VaultGemmaConfig(
        **D, sliding_window=5, query_pre_attn_scalar=8, attn_logit_softcapping=2.0
    ),
    "phi3": lambda: T.Phi3Config(**G, sliding_window=5),
    "phi": lambda: T.PhiConfig(**G),
    "phimoe": lambda: T.PhimoeConfig(**G, num_local_experts=4, sliding_window=5),
    "gpt2": lambda: T.GPT2Config(
        vocab_size=V,
        n_embd=H,
        n_layer=L,
        n_head=NH,
        n_positions=64,
        n_inner=FF,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        scale_attn_by_inverse_layer_idx=True,
    ),
    "gpt_neox": lambda: T.GPTNeoXConfig(**B, rotary_pct=0.5),
    "opt": lambda: T.OPTConfig(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=L,
        num_attention_heads=NH,
        ffn_dim=FF,
        max_position_embeddings=64,
        word_embed_proj_dim=H,
        dropout=0.0,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
    "stablelm": lambda: T.StableLmConfig(**G),
    "cohere": lambda: T.CohereConfig(**G),
    "cohere2": lambda: T.Cohere2Config(**G, sliding_window=5),
    "olmo": lambda: T.OlmoConfig(**G),
    "olmo2": lambda: T.Olmo2Config(**G),
    "olmo3": lambda: T.Olmo3Config(**G, sliding_window=5),
    "olmoe": lambda: T.OlmoeConfig(**G, **MOE),
    "granite": lambda: T.GraniteConfig(**G, attention_multiplier=0.2),
    "granitemoe": lambda: T.GraniteMoeConfig(**G, num_local_experts=4, num_experts_per_tok=2, attention_multiplier=0.2),
    "granite_swa": lambda: T.GraniteSWAConfig(**G, sliding_window=5, attention_multiplier=0.2),
    "deepseek_v2": lambda: T.DeepseekV2Config(
        **MLA,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
    ),
    "deepseek_v3": lambda: T.DeepseekV3Config(
        **MLA,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
    ),
    "deepseek_v32": lambda: T.DeepseekV32Config(
        **MLA,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
        index_topk=4,
        index_n_heads=2,
        index_head_dim=8,
    ),
    "gpt_oss": lambda: T.GptOssConfig(
        **D,
        sliding_window=5,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ),
    "mixtral": lambda: T.MixtralConfig(**G, num_local_experts=4, num_experts_per_tok=2, sliding_window=5),
    "qwen2_moe": lambda: T.Qwen2MoeConfig(**G, **MOE, moe_intermediate_size=16, shared_expert_intermediate_size=16),
    "qwen2_moe_swa": lambda: T.Qwen2MoeConfig(
        **G,
        **MOE,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        use_sliding_window=True,
        sliding_window=5,
        max_window_layers=4,
    ),
    "qwen3_moe": lambda: T.Qwen3MoeConfig(**D, **MOE, moe_intermediate_size=16),
    "qwen3_moe_swa": lambda: T.Qwen3MoeConfig(
        **D, **MOE, moe_intermediate_size=16, use_sliding_window=True, sliding_window=5
    ),
    "smollm3": lambda: T.SmolLM3Config(**G, use_sliding_window=True, sliding_window=5, no_rope_layer_interval=2),
    "llama4_text": lambda: T.Llama4TextConfig(
        **D,
        intermediate_size_mlp=FF,
        attention_chunk_size=4,
        num_local_experts=2,
        num_experts_per_tok=1,
        no_rope_layers=[1, 1, 0, 1],
    ),
    "gpt_bigcode": lambda: T.GPTBigCodeConfig(
        vocab_size=V,
        n_embd=H,
        n_layer=L,
        n_head=NH,
        n_positions=64,
        n_inner=FF,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        multi_query=True,
    ),
    "starcoder2": lambda: T.Starcoder2Config(**G, sliding_window=5),
    "glm": lambda: T.GlmConfig(**D),
    "glm4": lambda: T.Glm4Config(**D),
    "exaone4": lambda: T.Exaone4Config(**G, sliding_window=5, sliding_window_pattern=2),
    "nemotron": lambda: T.NemotronConfig(**G),
    "hunyuan_dense": lambda: T.HunYuanDenseV1Config(**D),
    "ernie4_5": lambda: T.Ernie4_5Config(**D),
    "arcee": lambda: T.ArceeConfig(**G),
    "bitnet": lambda: T.BitNetConfig(**G),
    "persimmon": lambda: T.PersimmonConfig(**B),
    "nanochat": lambda: T.NanoChatConfig(**G),
    "biogpt": lambda: T.BioGptConfig(**B),
    "doge": lambda: T.DogeConfig(**G, keep_window_size=4),
    "diffllama": lambda: T.DiffLlamaConfig(**G),
    "dbrx": lambda: T.DbrxConfig(
        vocab_size=V,
        d_model=H,
        n_layers=L,
        n_heads=NH,
        max_seq_len=64,
        attn_config=dict(kv_n_heads=KV, rope_theta=10000.0, clip_qkv=8.0),
        ffn_config=dict(ffn_hidden_size=FF, moe_num_experts=4, moe_top_k=2, hidden_size=H),
        pad_token_id=0,
    ),
    "modernbert_decoder": lambda: T.ModernBertDecoderConfig(
        **B, local_attention=10, global_attn_every_n_layers=2, cls_token_id=1, sep_token_id=2
    ),
    "helium": lambda: T.HeliumConfig(**D),
    # hybrids
    "falcon_h1": lambda: T.FalconH1Config(
        **G, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8, mamba_chunk_size=8
    ),
    "jamba": lambda: T.JambaConfig(
        **G,
        num_experts=2,
        num_experts_per_tok=1,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        mamba_d_state=8,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
    ),
    "qwen3_next": lambda: T.Qwen3NextConfig(
        **D,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        layer_types=["linear_attention", F, "linear_attention", F],
    ),
    "bamba": lambda: T.BambaConfig(
        **G,
        attn_layer_indices=[1, 3],
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_n_groups=1,
        mamba_d_state=8,
        mamba_chunk_size=8,
    ),
    "granitemoehybrid": lambda: T.GraniteMoeHybridConfig(
        **G,
        num_local_experts=2,
        num_experts_per_tok=1,
        shared_intermediate_size=16,
        layer_types=["linear_attention", F, "linear_attention", F],
        mamba_n_heads=8,
        mamba_d_head=8,
        mamba_n_groups=1,
        mamba_d_state=8,
        mamba_chunk_size=8,
    ),
    "lfm2": lambda: T.Lfm2Config(**G, layer_types=["conv", F, "conv", F]),
    "minimax": lambda: T.MiniMaxConfig(
        **D,
        num_local_experts=2,
        num_experts_per_tok=1,
        block_size=8,
        layer_types=["linear_attention", F, "linear_attention", F],
    ),
    "recurrent_gemma": lambda: T.RecurrentGemmaConfig(
        **D, lru_width=H, attention_window_size=5, block_types=["recurrent", "attention"]
    ),
    # VL models from text alone
    "gemma3_vl": lambda: T.Gemma3Config(
        text_config=dict(D, model_type="gemma3_text", sliding_window=5, query_pre_attn_scalar=8, layer_types=ALT),
        vision_config=dict(
            model_type="siglip_vision_model",
            hidden_size=H,
            num_hidden_layers=1,
            num_attention_heads=NH,
            intermediate_size=FF,
            image_size=16,
            patch_size=4,
            vision_use_head=False,
        ),
        mm_tokens_per_image=4,
        image_token_index=59,
        boi_token_index=58,
        eoi_token_index=57,
    ),
    "qwen2_vl": lambda: T.Qwen2VLConfig(
        text_config=dict(
            G, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
        ),
        vision_config=dict(
            depth=1,
            embed_dim=H,
            hidden_size=H,
            num_heads=NH,
            mlp_ratio=2,
            patch_size=4,
            spatial_merge_size=2,
            temporal_patch_size=2,
        ),
        image_token_id=59,
        video_token_id=58,
        vision_start_token_id=57,
        vision_end_token_id=56,
    ),
    "llava": lambda: T.LlavaConfig(
        text_config=T.LlamaConfig(**G),
        vision_config=T.CLIPVisionConfig(
            hidden_size=H,
            num_hidden_layers=1,
            num_attention_heads=NH,
            intermediate_size=FF,
            image_size=16,
            patch_size=4,
            projection_dim=H,
        ),
        image_token_id=59,
    ),
}

_P = dict(bos_token_id=1, eos_token_id=2, pad_token_id=0)
_E = dict(vocab_size=V, n_embd=H, n_layer=L, n_head=NH, n_positions=64, **_P)
OUTSIDE: dict[str, Callable[[], PretrainedConfig]] = {
    "falcon": lambda: T.FalconConfig(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=L,
        num_attention_heads=NH,
        multi_query=True,
        parallel_attn=True,
        **_P,
    ),
    "falcon_alibi": lambda: T.FalconConfig(
        vocab_size=V, hidden_size=H, num_hidden_layers=L, num_attention_heads=NH, alibi=True, multi_query=False, **_P
    ),
    "bloom": lambda: T.BloomConfig(vocab_size=V, hidden_size=H, n_layer=L, n_head=NH, **_P),
    "mpt": lambda: T.MptConfig(
        vocab_size=V, d_model=H, n_layers=L, n_heads=NH, max_seq_len=64, expansion_ratio=2, **_P
    ),
    "gptj": lambda: T.GPTJConfig(**_E, rotary_dim=4),
    "codegen": lambda: T.CodeGenConfig(**_E, rotary_dim=4),
    "gpt_neo": lambda: T.GPTNeoConfig(
        vocab_size=V,
        hidden_size=H,
        num_layers=L,
        num_heads=NH,
        window_size=5,
        attention_types=[[["global", "local"], 2]],
        max_position_embeddings=64,
        intermediate_size=FF,
        **_P,
    ),
    "xglm": lambda: T.XGLMConfig(
        vocab_size=V, d_model=H, num_layers=L, attention_heads=NH, ffn_dim=FF, max_position_embeddings=64, **_P
    ),
    "openai_gpt": lambda: T.OpenAIGPTConfig(**_E),
    "gpt_neox_japanese": lambda: T.GPTNeoXJapaneseConfig(
        vocab_size=V,
        hidden_size=H,
        num_hidden_layers=L,
        num_attention_heads=NH,
        intermediate_multiple_size=2,
        max_position_embeddings=64,
        **_P,
    ),
    "mamba": lambda: T.MambaConfig(vocab_size=V, hidden_size=H, num_hidden_layers=2, state_size=4, **_P),
}
_UNUSUAL: dict[str, Callable[[], PretrainedConfig]] = {
    "ctrl": lambda: T.CTRLConfig(**_E, dff=FF),
    "zamba": lambda: T.ZambaConfig(
        **G,
        attention_hidden_size=2 * H,
        mamba_d_state=4,
        mamba_dt_rank=4,
        n_mamba_heads=2,
        layers_block_type=["linear_attention", "hybrid", "linear_attention", "hybrid"],
        use_mamba_kernels=False,
    ),
    "zamba2": lambda: T.Zamba2Config(
        **G,
        mamba_d_state=8,
        mamba_ngroups=1,
        n_mamba_heads=8,
        mamba_headdim=8,
        num_mem_blocks=1,
        use_mem_rope=True,
        chunk_size=8,
        layers_block_type=["linear_attention", "hybrid", "linear_attention", "hybrid"],
    ),
    "nemotron_h": lambda: T.NemotronHConfig(
        **{k: v for k, v in D.items() if k != "num_hidden_layers"},
        layers_block_type=["linear_attention", F, "mlp", F],
        mamba_num_heads=8,
        mamba_head_dim=8,
        n_groups=1,
        ssm_state_size=8,
        chunk_size=8,
    ),
    "mimo_v2_flash": lambda: T.MiMoV2FlashConfig(
        **D,
        sliding_window=5,
        v_head_dim=6,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        layer_types=ALT,
    ),
    "deepseek_v4": lambda: T.DeepseekV4Config(
        **dict(B, num_key_value_heads=1),
        head_dim=8,
        q_lora_rank=16,
        sliding_window=5,
        o_groups=2,
        o_lora_rank=8,
        index_n_heads=2,
        index_head_dim=8,
        index_topk=2,
        n_routed_experts=4,
        hc_mult=2,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        layer_types=[S, "compressed_sparse_attention", "heavily_compressed_attention", S],
    ),
    "glm_moe_dsa": lambda: T.GlmMoeDsaConfig(
        **MLA,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        moe_intermediate_size=16,
        index_topk=4,
        index_n_heads=2,
        index_head_dim=8,
    ),
    "hrm_text": lambda: T.HrmTextConfig(
        **{k: v for k, v in G.items() if k != "num_hidden_layers"}, num_layers_per_stack=2, H_cycles=1, L_cycles=2
    ),
    "longcat_flash": lambda: T.LongcatFlashConfig(
        **{k: v for k, v in MLA.items() if k not in ("num_hidden_layers", "intermediate_size")},
        num_layers=2,
        ffn_hidden_size=FF,
        expert_ffn_hidden_size=16,
        n_routed_experts=4,
        moe_topk=2,
        zero_expert_num=1,
        head_dim=4,
    ),
    "jetmoe": lambda: T.JetMoeConfig(
        **dict(B, num_key_value_heads=2), kv_channels=8, num_local_experts=4, num_experts_per_tok=2
    ),
    "flint": lambda: T.FlintConfig(**D, sliding_window=5, layer_types=ALT),
    "hyv4": lambda: T.HYV4Config(
        **MLA,
        index_topk=4,
        index_n_heads=2,
        index_head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
    ),
    "olmo_hybrid": lambda: T.OlmoHybridConfig(**G, layer_types=["linear_attention", F, "linear_attention", F]),
    "bart": lambda: T.BartConfig(
        vocab_size=V,
        d_model=H,
        decoder_layers=L,
        decoder_attention_heads=NH,
        decoder_ffn_dim=FF,
        encoder_layers=1,
        encoder_attention_heads=NH,
        encoder_ffn_dim=FF,
        max_position_embeddings=64,
        is_decoder=True,
        is_encoder_decoder=False,
        **_P,
    ),
    "bert_decoder": lambda: T.BertConfig(**B, is_decoder=True),
    "ernie4_5_moe": lambda: T.Ernie4_5_MoeConfig(
        **D, moe_num_experts=4, moe_k=2, moe_intermediate_size=16, moe_num_shared_experts=1
    ),
    "minimax_swa": lambda: T.MiniMaxConfig(
        **D,
        num_local_experts=2,
        num_experts_per_tok=1,
        block_size=8,
        sliding_window=5,
        layer_types=["linear_attention", F, "linear_attention", F],
    ),
}
FAMILIES = {**_REGULAR, **_UNUSUAL, **OUTSIDE}
WITH_VISION = {"gemma3_vl", "qwen2_vl", "llava"}

REFUSED = {
    "bart": "not a plain decoder",
    "deepseek_v32": "by their content",
    "deepseek_v4": "by their content",
    "diffllama": "difference of two softmaxes",
    "doge": "depends on the content",
    "glm_moe_dsa": "by their content",
    "hrm_text": "several times",
    "hyv4": "by their content",
    "zamba": "no attention that goes through",
    "zamba2": "no attention that goes through",
    **dict.fromkeys(OUTSIDE, "attention interface"),
}
"""What cannot be captured, and words of the reason that is given."""

CAPTURED = [name for name in FAMILIES if name not in REFUSED]

EAGER_ALONE = {"flint", "gemma2", "gpt_oss", "granite_swa", "mimo_v2_flash", "vaultgemma"}
"""Families that transformers has no `sdpa` for."""

CAPTURED_ON = [
    (name, how) for name in CAPTURED for how in ("eager", "sdpa") if how == "eager" or name not in EAGER_ALONE
]
"""Every family with each backend that a CPU has for it."""


def build(name: str, implementation: str) -> PreTrainedModel:
    """The family's model with random weights; skips where this transformers does not have it."""
    try:
        config = FAMILIES[name]()
    except AttributeError as error:
        pytest.skip(str(error))
    torch.manual_seed(0)
    factory = T.AutoModelForImageTextToText if name in WITH_VISION else T.AutoModelForCausalLM
    model = factory.from_config(config, attn_implementation=implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter *= 5  # at the usual width of initial weights every row's attention would be all but uniform
    return model
