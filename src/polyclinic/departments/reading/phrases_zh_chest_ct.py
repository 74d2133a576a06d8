"""Chinese for what the checks of chest CT beside lungs and nodules write; ``#`` stands for a number."""

from __future__ import annotations

from collections.abc import Mapping

PHRASES: Mapping[str, str] = {
    # Thoracic spine
    "thoracic spine": "胸椎",
    "bones other than the attenuation of the spine": "除椎体CT值外的骨骼",
    "vertebral bodies measured": "所测椎体",
    "slices too far apart": "层间距过大",
    "fewer than five vertebral bodies could be told apart": "可区分的椎体不足五个",
    "too few vertebral bodies with spongy bone only": "仅含松质骨的椎体过少",
    "lower thoracic vertebrae were measured, levels not counted; the thresholds were set at l#": (
        "测量的是下段胸椎，未计数节段；界值依据L#制定。"
    ),
    "contrast agent raises the attenuation of bone": "对比剂使骨的CT值升高。",
    "the thresholds were set at # kv; at another tube voltage attenuation differs": (
        "界值依据# kV制定，管电压不同时CT值亦不同。"
    ),
    "slices thicker than # mm mix bone with its surroundings": "层厚大于# mm，骨与周围组织的部分容积效应明显。",
    # Liver
    "liver": "肝脏",
    "upper abdomen other than the attenuation of the liver": "除肝脏CT值外的上腹部",
    "contrast medium was given": "已使用对比剂",
    "too little of it is in view": "扫描范围内所见过少",
    "it is as dense as after contrast medium": "密度与增强后相当",
    "what lies below the right lung is not uniform": "右肺下方组织密度不均",
    "only the dome of the liver was measured; focal fat and vessels were not told apart": (
        "仅测量膈顶下肝脏，未区分局灶性脂肪与血管。"
    ),
    "the threshold was set at # kv; at another tube voltage attenuation differs": (
        "界值依据# kV制定，管电压不同时CT值亦不同。"
    ),
    "whether contrast medium was given is taken from the image header, which may not state it": (
        "是否使用对比剂取自图像信息，其中可能未注明。"
    ),
    # Aorta
    "aorta": "主动脉",
    "heart and great vessels other than calcium and the calibre of the aorta": "除钙化及主动脉管径外的心脏及大血管",
    "ascending aorta": "升主动脉",
    "descending aorta": "降主动脉",
    "its wall is not seen": "管壁显示不清",
    "the carina was not found": "未识别出气管隆突",
    "the mediastinum below the carina is not in view": "隆突以下纵隔不在扫描范围内",
    "measured on axial images; where the vessel runs obliquely it is narrower than measured": (
        "在横断面上测量；血管走行倾斜处，实际管径小于测量值。"
    ),
    "part of the wall cannot be told from its neighbours; the circle is completed there": (
        "部分管壁与邻近结构分界不清，该处以圆形补全。"
    ),
    "the diameter varies by more than # mm between the images measured": "所测各层直径相差超过# mm。",
    "slices thicker than # mm blur the wall of the vessel": "层厚大于# mm，管壁边界模糊。",
    # Heart
    "the heart could not be told from its surroundings": "心脏与周围结构无法区分",
    "too noisy to tell calcium from noise": "噪声过大，无法与钙化区分",
    "the scan is not ecg-gated: the score is an estimate of the class, not a calcium score": (
        "非心电门控扫描：积分仅用于估计分级，不等同于钙化积分。"
    ),
    "coronary arteries, heart valves and pericardium are not told apart": "未区分冠状动脉、心瓣膜与心包。",
    "the images are noisy; small plaques are left out, and noise may count as calcium": (
        "图像噪声较大，小斑块未计入，噪声亦可能被计为钙化。"
    ),
    "the score was made for # kv; at another tube voltage it differs": "积分方法依据# kV制定，管电压不同时结果亦不同。",
    # Opacities
    "lung opacities": "肺内密度增高影",
    "share of opacities in the lungs": "密度增高影占双肺比例",
    "opacities in the upper third": "上三分之一密度增高影占比",
    "opacities in the middle third": "中三分之一密度增高影占比",
    "opacities in the lower third": "下三分之一密度增高影占比",
    "causes are not told apart: infection, oedema, haemorrhage, atelectasis and scars look alike": (
        "不区分病因：感染、水肿、出血、肺不张与瘢痕表现相似。"
    ),
    "opacities around the hila below # ml are taken for vessels and not counted": (
        "肺门周围小于# mL的密度增高影视为血管，未计入。"
    ),
    "consolidation at chest wall or mediastinum is partly outside the lung outline and not counted": (
        "贴近胸壁或纵隔的实变部分位于肺轮廓之外，未计入。"
    ),
    "the lungs are dense on the whole; a shallow breath may look like ground glass": (
        "全肺密度偏高，吸气不足可表现为磨玻璃影。"
    ),
    "slices thicker than # mm blur vessels into their surroundings": "层厚大于# mm，血管与周围组织分界模糊。",
    # Comparison with an earlier study
    "slices of # mm are compared with slices of # mm": "本次层厚# mm与既往层厚# mm对比，测量值受层厚影响。",
    "stable by diameter, but the volume changed by more than the # % that are commonly taken as the error of measuring "
    "twice": "按直径为稳定，但体积变化超过通常视为重复测量误差的#%。",
    "it could not be compared: its place on the earlier study is not certain": "既往检查中的对应位置不确定，未能对比。",
    "it could not be compared: it is smaller than the slices of the earlier study are thick": (
        "其大小小于既往检查的层厚，未能对比。"
    ),
    "it is not older than this study": "该检查并不早于本次检查",
    "it has no axial ct series that can be judged": "没有可供评估的横断面CT序列",
    "its slices are thicker than # mm": "层厚大于# mm",
    "comparing took too long": "对比超时",
    "no lung is seen on both": "两次检查无共同可见的肺",
    "the lung surfaces stay # mm apart": "配准后肺表面仍相距# mm",
    "the vessels of the lungs do not match (agreement #)": "肺内血管结构不一致（相关系数#）",
    "it could not be read": "无法读取",
    "it could not be compared": "未能对比",
}
