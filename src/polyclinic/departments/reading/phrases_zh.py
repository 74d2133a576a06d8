"""Chinese for the sentences that agents write about a scan; ``#`` stands for a number, in the order of the English."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from polyclinic.departments.reading import phrases_zh_chest_ct

_ENDS = {"top": "上缘", "bottom": "下缘", "side": "侧缘"}
_BORDERS = {"top": "上缘", "bottom": "下缘", "left": "左缘", "right": "右缘"}
_CUT_BORDERS = [edges for count in range(1, 5) for edges in combinations(_BORDERS, count)]
_SIDES = {"right": "右", "left": "左"}
_ZONES = {"upper": "上", "middle": "中", "lower": "下"}
_CUT = (
    ("top",), ("bottom",), ("side",), ("top", "bottom"), ("top", "side"), ("bottom", "side"), ("top", "bottom", "side"),
)  # fmt: skip

PHRASES: Mapping[str, str] = {
    **phrases_zh_chest_ct.PHRASES,
    "chest ct": "胸部CT",
    "yes": "有",
    "no": "无",
    "none": "无",
    "unknown": "不详",
    "not stated": "未注明",
    # Facts beside the findings
    "series": "序列",
    "slices": "层数",
    "slice thickness": "层厚",
    "slice spacing": "层间距",
    "pixel spacing": "像素间距",
    "kernel": "重建核",
    "contrast agent": "对比剂",
    "tube voltage": "管电压",
    "scanner": "扫描设备",
    "laa-950 right lung": "右肺LAA-950",
    "laa-950 left lung": "左肺LAA-950",
    "dense share of the lungs": "肺内致密部分占比",
    "airway volume": "气道容积",
    "nodule candidates": "结节候选",
    "# proposed of # measured": "测量#个中提出#个",
    "chest x-ray": "胸部X线平片",
    "pa": "后前位（PA）",
    "ap": "前后位（AP）",
    "radiograph": "检查类型",
    "view": "投照体位",
    "image size": "图像尺寸",
    "lung fields": "肺野识别",
    "found": "已识别",
    "not sure": "不确定",
    "pneumonia-type opacity on chest radiograph": "肺炎样阴影",
    "pattern suspicious for pulmonary tuberculosis on chest radiograph": "可疑肺结核影像表现",
    "heat map maximum, opacity": "热图最大值（肺炎样阴影）",
    "heat map maximum, tuberculosis": "热图最大值（肺结核）",
    "row #, column #": "第#行，第#列",
    "# (marked from #, research stage)": "#（标记阈值#，研究阶段）",
    # What was not looked at
    "cardiothoracic ratio and heart size": "心胸比及心影大小",
    "nodules and masses": "肺结节及肿块",
    "pneumothorax": "气胸",
    "pleural effusion": "胸腔积液",
    "tubes, lines and devices": "导管及置入物",
    "covid-# (the data at hand cannot support it)": "COVID-#（现有数据不足以支持）",
    "pneumonia-type opacity on chest radiograph (the image is too small)": "肺炎样阴影（图像尺寸过小）",
    "airways": "气道",
    "pleura": "胸膜",
    "mediastinum and hila": "纵隔及肺门",
    "heart and great vessels": "心脏及大血管",
    "coronary calcium": "冠状动脉钙化",
    "bones": "骨骼",
    "chest wall": "胸壁",
    "upper abdomen": "上腹部",
    "comparison with priors": "与既往检查对比",
    "lung nodules (slices thicker than # mm)": "肺结节（层厚大于# mm）",
    # Limits of nodules
    "it touches the pleura; its border there is estimated": "与胸膜相连，该处边界为估计值。",
    "it touches a vessel; its border there is estimated": "与血管相连，该处边界为估计值。",
    "slices thicker than # mm hide small nodules and blur their size": "层厚大于# mm，可能遗漏小结节并影响大小测量。",
    "extensive opacities: marks inside them may be parts of the opacity, and nodules may be hidden": (
        "肺内广泛实变或磨玻璃影：其内的标记可能为病变的一部分，结节亦可能被掩盖。"
    ),
    # Limits of radiographs
    **{
        f"the network looked most at the {side} {zone} zone; this is a coarse hint, not an outline": (
            f"网络关注区主要位于{_SIDES[side]}{_ZONES[zone]}肺野，仅为粗略提示，不是病灶轮廓。"
        )
        for side in _SIDES
        for zone in _ZONES
    },
    **{
        f"a lung field may be cut off at the {' and '.join(edges)} of the image": (
            f"肺野可能在图像{'、'.join(_BORDERS[edge] for edge in edges)}处被截断。"
        )
        for edges in _CUT_BORDERS
    },
    "research stage; the score is no diagnosis of pneumonia": "研究阶段；评分不能作为肺炎的诊断。",
    "at this threshold sensitivity was # and specificity # on the test films that it judged": (
        "在该阈值下，对测试集中可判读的胸片，敏感度为#，特异度为#。"
    ),
    "learned from jpeg copies with text-mined, noisy labels of one hospital": (
        "由单一医院的JPEG图像训练，标签由报告文本提取，存在误差。"
    ),
    "atelectasis, oedema, effusion and scars look alike to it": "不能区分肺不张、肺水肿、胸腔积液及瘢痕。",
    "research score, learned from # copies of # x # pixels of one hospital; not for diagnosis": (
        "研究性评分，由单一医院的#幅# × #像素图像训练，不用于诊断。"
    ),
    "at this threshold sensitivity was # and specificity # in cross-validation; no other site was tested": (
        "在该阈值下，交叉验证的敏感度为#，特异度为#；未在其他医院验证。"
    ),
    "image borders alone told its training films apart as well, so the score is no evidence of tuberculosis": (
        "仅凭图像边缘即可达到相近的区分度，故评分不能作为肺结核的证据。"
    ),
    "its threshold must be set again on the site's own labelled films": "阈值须用本院已标注的胸片重新设定。",
    "the lung fields were not found surely; the whole image was judged": "肺野识别不确定，按整幅图像评估。",
    "the header does not say whether this is a pa or ap view": "图像信息未注明为后前位或前后位。",
    "ap view: heart and mediastinum look larger, and such patients are often sicker": (
        "前后位片：心影及纵隔显得增大，此类患者病情往往较重。"
    ),
    "the header says that text is burned into the image": "图像信息表明图像中叠印有文字。",
    # Limits of densitometry and volumes
    "the reconstruction kernel is not stated; densitometry depends on it": "未注明重建核，而密度定量受其影响。",
    "a sharp reconstruction kernel raises noise and overstates low attenuation": (
        "锐利重建核使噪声增加，低密度区被高估。"
    ),
    "slices of # mm or more average lung with its surroundings and understate low attenuation": (
        "层厚达# mm及以上，部分容积效应使低密度区被低估。"
    ),
    "contrast agent raises lung attenuation and understates emphysema": "对比剂使肺密度升高，肺气肿被低估。",
    "the lungs are dense on the whole; inspiration may be shallow or disease may raise attenuation": (
        "全肺密度偏高，可能吸气不足或由病变引起。"
    ),
    "extensive opacities hide lung density": "肺内广泛病变影响肺密度测量。",
    "only one lung was found": "仅识别出一侧肺。",
    "the lungs differ much in volume; one may be collapsed, resected or incompletely outlined": (
        "双肺容积相差较大，一侧可能不张、切除或勾画不全。"
    ),
    "the trachea was not found; airways may be counted as lung": "未识别出气管，气道可能被计入肺容积。",
    "missing slices were filled by interpolation": "缺失层面以插值补齐。",
    "a tilted gantry was corrected by shifting slices": "机架倾斜已通过层面平移校正。",
    # Faults of a series
    "# images of another size, orientation, kernel or kind were left out": (
        "#幅大小、方向、重建核或类型不同的图像未采用"
    ),
    "# images of other acquisitions of the same positions were left out": "#幅同一位置其他采集的图像未采用",
    "# images carry no position or spacing and were left out": "#幅图像缺少位置或间距信息，未采用",
    "# slices are there twice with the same pixels; the copies were left out": "#个层面重复且像素相同，重复者未采用",
    "# positions have two different images; the first by its uid was taken": "#个位置有两幅不同图像，按UID取第一幅",
    "# slices are missing (longest step # mm); they were filled by interpolation": (
        "缺失#个层面（最大间隔# mm），已以插值补齐"
    ),
    "# slices are not evenly spaced; the volume was resampled to # mm": "#个层面间距不均，已重采样至# mm",
    "the gantry is tilted by # degrees; slices were shifted onto an orthogonal grid": "机架倾斜#度，层面已平移校正",
    "# slices lie sideways of the others; they were shifted onto one grid": "#个层面侧向偏移，已平移校正",
    # Why an agent gave no result
    "the study holds no cr or dx radiograph": "本检查中没有CR或DX平片。",
    "the series is not ct": "该序列不是CT。",
    "the series is a localizer": "该序列为定位像。",
    "the series is not axial": "该序列不是横断面。",
    "the slices lie # mm apart; # mm is the most": "层间距为# mm，上限为# mm。",
    "the series is incomplete: its # slices cover # mm, less than any lungs": (
        "序列不完整：#个层面仅覆盖# mm，短于肺的长度。"
    ),
    "slices are missing: the longest gap is # mm": "层面缺失：最大间隔为# mm。",
    "several different images lie at the same positions; the series is mixed": "同一位置存在多幅不同图像，序列混杂。",
    "no lungs were found in the series": "该序列中未识别出肺。",
    "what was found as lungs has # ml, which cannot be": "识别出的肺容积为# mL，不合理。",
    "no axial ct series of this study can be judged": "本检查中没有可供评估的横断面CT序列。",
    "the image is not a cr or dx radiograph": "该图像不是CR或DX平片。",
    "the header names another body part than the chest": "图像信息注明的部位不是胸部。",
    **{
        f"the view is {view}; only pa and ap views are judged": f"投照体位为{view.upper()}；仅评估后前位和前后位。"
        for view in ("lateral", "ll", "rl", "rao", "lao", "rpo", "lpo")
    },
    "patient orientation says that this is a lateral view": "患者方位信息表明此为侧位片。",
    "the image is stored lying on its side": "图像侧向存储。",
    "the image is stored upside down": "图像上下颠倒存储。",
    "the image is unprocessed detector data (for processing)": "图像为未处理的探测器数据（FOR PROCESSING）。",
    "the agent is for adults only": "该程序仅适用于成人。",
    "the image has fewer than # rows or columns": "图像行数或列数少于#。",
    "the image has several frames; single films are judged": "图像含多帧；仅评估单帧平片。",
    "the pixels of the image cannot be decoded": "图像像素无法解码。",
    "the image is in colour": "图像为彩色。",
    "the image has almost no grey values": "图像几乎没有灰度层次。",
    "two lung fields were not found: this may be no frontal chest, be turned, or be opaque": (
        "未识别出双侧肺野：可能不是正位胸片、方向旋转或肺野不透光。"
    ),
    "much of the chest is fully black or fully white": "胸部大部分区域全黑或全白。",
    "text or markers are drawn over the chest": "胸部图像上叠加有文字或标记。",
    "dark and bright seem exchanged, against what the header says": "明暗似与图像信息所述相反。",
    **{
        f"the lungs are cut off at the {' and '.join(cut)} of the images": (
            f"图像{'、'.join(_ENDS[end] for end in cut)}处肺被截断。"
        )
        for cut in _CUT
    },
}  # fmt: skip
